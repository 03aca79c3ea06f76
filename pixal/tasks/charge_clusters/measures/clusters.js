/* Opens events, steps through them, and filters the table. */
const find = (selector) => document.querySelector(selector);
const rows = [...document.querySelectorAll(".events tbody tr")];
const dialog = find("#event");
let current = null;

const shown = () => rows.filter((row) => !row.hidden);

function open(row) {
  current = row;
  const list = shown();
  find("#event-title").textContent = row.dataset.name;
  find("#event-position").textContent = `${list.indexOf(row) + 1} of ${list.length}`;
  find("#event-picture").src = find(`#picture-${row.dataset.index}`).textContent;
  find("#event-picture").alt = `Charge of ${row.dataset.name} by time slice`;
  find("#event-values").replaceChildren(find(`#values-${row.dataset.index}`).content.cloneNode(true));
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const list = shown();
  const next = list[list.indexOf(current) + by];
  if (next) open(next);
}

rows.forEach((row) => row.querySelector("button").addEventListener("click", () => open(row)));
if (dialog) {
  dialog.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => step(Number(button.dataset.step))));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => current && current.querySelector("button").focus());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight" || event.key === "j") step(1);
    if (event.key === "ArrowLeft" || event.key === "k") step(-1);
  });
  find("#unusual").addEventListener("change", (event) => rows.forEach((row) => {
    row.hidden = event.target.checked && row.dataset.unusual !== "true";
  }));
}
