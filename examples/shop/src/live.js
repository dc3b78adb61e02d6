// Shows the cart's count as it changes, also when another tab changes it.
const count = document.getElementById("count");
const state = document.getElementById("state");
const events = new EventSource("/live/events");
events.addEventListener("open", () => { state.textContent = "connected"; });
events.addEventListener("error", () => { state.textContent = "not connected; trying again"; });
events.addEventListener("cart", (event) => { count.textContent = event.data; });
events.addEventListener("ended", () => {
  events.close();
  state.textContent = "your session has ended";
});
