/* The page's controls and keys. This script comes last and starts the page. */
find("#parts").addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  const key = event.target.closest("[data-sort]")?.dataset.sort;
  if (key) sortBy(key);
  else if (row && event.target.closest(".mark")) toggleMark(parts[row.dataset.index]);
  else if (row && !String(getSelection())) open(parts[row.dataset.index]);
});
find("#text").addEventListener("input", (event) => filter({ text: event.target.value.trim().toLowerCase() }));
find("#verdict").addEventListener("change", (event) => filter({ verdict: event.target.value }));
find("#type").addEventListener("change", (event) => filter({ type: event.target.value }));
find("#range").addEventListener("click", () => filter({ range: null }));
find("#clear").addEventListener("click", () => {
  find("#text").value = find("#type").value = "";
  filter({ text: "", type: "", verdict: "all", range: null });
});
for (const card of findAll(".card[data-verdict]")) card.addEventListener("click", () => filter({ verdict: card.dataset.verdict }));
find("#export").addEventListener("click", exportMarks);
const slider = find("#factor");
const moveThreshold = () => {
  state.factor = 4 ** (slider.value / 100);
  showWhatIf();
};
slider.addEventListener("input", moveThreshold);
find("#factor-reset").addEventListener("click", () => {
  slider.value = 0;
  moveThreshold();
});
find("#help-button").addEventListener("click", () => find("#help").showModal());
find("#theme").addEventListener("click", (event) => {
  const root = document.documentElement;
  const next = { undefined: "dark", dark: "light" }[root.dataset.theme];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  event.target.textContent = `Colours: ${next || "system"}`;
});

const modes = ["slider", "side", "photo", "overlay"];
const detailKeys = {
  j: () => step(1), ArrowRight: () => step(1), ArrowDown: () => step(1),
  k: () => step(-1), ArrowLeft: () => step(-1), ArrowUp: () => step(-1),
  "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: fit,
  b: () => find("#boxes").click(), m: () => toggleMark(current),
  v: () => setMode(modes[(modes.indexOf(stage.dataset.mode) + 1) % modes.length]),
};
const pageKeys = { j: () => stepFocus(1), k: () => stepFocus(-1), "/": () => find("#text").focus() };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input[type="search"], select')) return;
  if (event.target.matches('[type="range"], [type="radio"]') && event.key.startsWith("Arrow")) return; // these inputs handle the arrow keys
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let action = dialog.open ? detailKeys[key] : pageKeys[key];
  if (key === "?") action = () => (find("#help").open ? find("#help").close() : find("#help").showModal());
  else if (find("#help").open) return;
  else if (dialog.open && key >= "1" && key <= "9" && key.length === 1) action = () => goTo(current.regions[key - 1]);
  else if (!dialog.open && event.target.closest("#parts tbody") && /^Arrow(Up|Down)$/.test(key)) action = () => stepFocus(key === "ArrowUp" ? -1 : 1);
  if (!action) return;
  event.preventDefault();
  action();
});
new ResizeObserver(([entry]) => document.documentElement.style.setProperty("--toolbar", `${entry.target.offsetHeight}px`)).observe(find(".toolbar"));

if (matchMedia("(max-width: 760px)").matches) find("#what-if").open = false;
// On paper everything is open. What was closed is closed again afterwards.
let opened = [];
addEventListener("beforeprint", () => {
  opened = findAll("details:not([open])");
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});

const charts = findAll("figure[data-type]").map(distribution);
refresh();
showMarks();
const linked = location.hash && parts.find((part) => addressOf(part) === location.hash);
if (linked) open(linked);
