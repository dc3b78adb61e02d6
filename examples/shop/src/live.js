// Shows the cart's count as it changes, also when another tab changes it.
const count = document.getElementById("count");
const state = document.getElementById("state");

function connect() {
  const events = new EventSource("/live/events");
  events.addEventListener("open", () => { state.textContent = "connected"; });
  events.addEventListener("cart", (event) => { count.textContent = event.data; });
  // The session has another id, for example since a login in another tab, or it is gone. The next answer tells which.
  events.addEventListener("ended", () => {
    events.close();
    connect();
  });
  events.addEventListener("error", () => {
    const isFinal = events.readyState === EventSource.CLOSED;
    state.textContent = isFinal
      ? "not connected: your session has ended, or it has too many open pages like this one"
      : "not connected; trying again";
  });
}

state.textContent = "connecting";
connect();
