// Live figures on the overview, and sorting of tables. The pages work without this.
"use strict";

// The list of what is wrong, only when it changed: readers of the screen say it then.
let shown = null;
const showFindings = (findings) => {
  const now = JSON.stringify(findings);
  if (now === shown) return;
  const isFirst = shown === null;
  shown = now;
  const place = document.getElementById("findings");
  if (isFirst && place.querySelectorAll("li").length === findings.length) return;
  if (findings.length === 0) {
    const well = document.createElement("p");
    well.className = "message good";
    well.textContent = "Nothing is wrong.";
    place.replaceChildren(well);
    return;
  }
  const list = document.createElement("ul");
  list.className = "findings";
  for (const finding of findings) {
    const item = document.createElement("li");
    item.className = finding.level;
    const problem = document.createElement("strong");
    const level = finding.level[0].toUpperCase() + finding.level.slice(1);
    problem.textContent = `${level}: ${finding.problem}`;
    item.append(problem, ` ${finding.advice}`);
    list.append(item);
  }
  place.replaceChildren(list);
};

// On a phone the navigation scrolls to the side: the page that is shown is in sight.
const here = document.querySelector("nav [aria-current]");
if (here) {
  const row = here.closest("ul");
  row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.offsetWidth) / 2;
}

const live = document.body.dataset.live;
if (live && "EventSource" in window) {
  const source = new EventSource(live);
  source.onmessage = (event) => {
    const figures = JSON.parse(event.data);
    for (const element of document.querySelectorAll("[data-figure]")) {
      const text = figures[element.dataset.figure];
      if (text === undefined || text === element.textContent) continue;
      element.textContent = text;
      element.classList.remove("changed");
      void element.offsetWidth; // Starts the animation anew.
      element.classList.add("changed");
    }
    showFindings(figures.health);
  };
  addEventListener("pagehide", () => source.close());
}

// A task that runs: its progress, and its page again when it has ended.
const task = document.querySelector("[data-task]");
if (task) {
  const look = async () => {
    const answer = await fetch(task.dataset.task, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const { ended, progress } = await answer.json();
    if (ended) return location.reload();
    const place = task.querySelector("[data-progress]");
    if (place.textContent !== progress) place.textContent = progress;
    setTimeout(look, 1000);
  };
  setTimeout(look, 300);
}

// A list that is being sorted: how far it is, and the list when it has ended.
const sorting = document.querySelector("[data-sorting]");
if (sorting) {
  const look = async () => {
    const answer = await fetch(sorting.dataset.sorting, { headers: { Accept: "application/json" } });
    if (!answer.ok) return location.reload();
    const { sorted } = await answer.json();
    if (sorted.is_complete) return location.reload();
    const text = `${sorted.examined.toLocaleString("en")} sessions examined`;
    sorting.querySelector("[data-progress]").textContent = text;
    setTimeout(look, 1000);
  };
  setTimeout(look, 300);
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const number = new RegExp("^[0-9][0-9,.]*$");
  const compare = (a, b) => number.test(a) && number.test(b)
    ? Number(a.replaceAll(",", "")) - Number(b.replaceAll(",", ""))
    : a.localeCompare(b, "en");
  const value = (row, column) => {
    const cell = row.cells[column];
    const time = cell.querySelector("time");
    return cell.dataset.sort ?? time?.dateTime ?? cell.querySelector("code")?.title ?? cell.textContent.trim();
  };
  headers.forEach((header, column) => {
    if (header.querySelector(".hidden")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((a, b) =>
        sign * compare(value(a, column), value(b, column)));
      body.append(...rows);
    });
  });
}
