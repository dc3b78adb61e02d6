// Live figures on the overview, and sorting of tables. The pages work without this.
"use strict";

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
    const isWell = document.getElementById("well") !== null;
    if (isWell !== figures.is_well) location.reload();
  };
  addEventListener("pagehide", () => source.close());
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    const time = cell.querySelector("time");
    return cell.dataset.sort ?? time?.dateTime ?? cell.textContent.trim();
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
        sign * value(a, column).localeCompare(value(b, column), "en", { numeric: true }));
      body.append(...rows);
    });
  });
}
