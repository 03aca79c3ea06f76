/* The stage: one or two panes that show the same place of two pictures, with zoom, a divider, and boxes of regions. */
const stage = find(".stage"), panes = findAll(".pane"), worlds = findAll(".world"), photo = find("#photo");
const view = { zoom: 1, x: 0, y: 0, fitted: true, width: 1, height: 1 };
const DIVIDER = 28; // pixels from the middle of the divider's handle to a region that is shown
let boxZoom = 0, hover = null, boxed = [];

// Set the size of the frame in which regions are given, and draw their boxes in both panes.
function frame(width, height, regions) {
  [view.width, view.height, boxed] = [width, height, regions];
  for (const svg of findAll(".boxes")) {
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(...regions.map((region, index) => {
      const group = drawn("g", { "data-region": index });
      group.append(drawn("rect", { class: "halo" }), drawn("rect"));
      group.append(drawn("text", {}, String(index + 1)));
      return group;
    }));
  }
  boxZoom = 0;
}

function fit() {
  stage.classList.toggle("stacked", stage.clientWidth < stage.clientHeight); // no room side by side
  view.zoom = Math.min(panes[0].clientWidth / view.width, panes[0].clientHeight / view.height) || 1;
  view.fitted = true;
  place();
}

// Keep the image in view: centred if smaller than the pane, otherwise without a gap at the edges.
function place() {
  const within = (at, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at)));
  view.x = within(view.x, view.width * view.zoom, panes[0].clientWidth);
  view.y = within(view.y, view.height * view.zoom, panes[0].clientHeight);
  for (const world of worlds) {
    Object.assign(world.style, { width: view.width + "px", height: view.height + "px", transform: `translate(${view.x}px, ${view.y}px) scale(${view.zoom})` });
    world.style.setProperty("--zoom", view.zoom);
  }
  if (boxZoom !== view.zoom) placeBoxes();
  stage.classList.toggle("close-by", view.zoom * view.width / (photo.naturalWidth || view.width) > 3);
  showReadout();
  stage.dispatchEvent(new Event("placed"));
}

// Show the photograph's pixel under the pointer, and the zoom.
function showReadout() {
  const x = hover ? Math.floor((hover.x - view.x) / view.zoom) : -1;
  const y = hover ? Math.floor((hover.y - view.y) / view.zoom) : -1;
  const inside = x >= 0 && y >= 0 && x < view.width && y < view.height;
  find("#readout").textContent = (inside ? `x ${x}  y ${y} · ` : "") + `${Math.round(100 * view.zoom)} %`;
}

// Leave a gap between a box and its region at every zoom: nothing is hidden, and small regions stay visible.
function placeBoxes() {
  boxZoom = view.zoom;
  const gap = 5 / view.zoom;
  for (const group of findAll(".boxes g")) {
    const region = boxed[group.dataset.region];
    const box = { x: region.x - gap, y: region.y - gap, width: region.width + 2 * gap, height: region.height + 2 * gap };
    for (const rect of findAll("rect", group)) for (const [key, value] of Object.entries(box)) rect.setAttribute(key, value);
    const text = find("text", group);
    text.setAttribute("x", box.x);
    text.setAttribute("y", box.y - gap > 12 / view.zoom ? box.y - gap : box.y + box.height + 15 / view.zoom);
  }
}

function zoomBy(factor, x = panes[0].clientWidth / 2, y = panes[0].clientHeight / 2) {
  const least = Math.min(panes[0].clientWidth / view.width, panes[0].clientHeight / view.height);
  const zoom = Math.min(Math.max(view.zoom * factor, least), Math.max(16, 2 * least));
  view.x = x - (x - view.x) * zoom / view.zoom;
  view.y = y - (y - view.y) * zoom / view.zoom;
  view.zoom = zoom;
  view.fitted = zoom === least;
  place();
}

function goTo(region) {
  if (!region) return;
  const { clientWidth: width, clientHeight: height } = panes[0];
  view.zoom = Math.min(8, width / (4 * region.width), height / (4 * region.height));
  view.zoom = Math.max(view.zoom, Math.min(width / view.width, height / view.height));
  view.x = width / 2 - (region.x + region.width / 2) * view.zoom;
  view.y = height / 2 - (region.y + region.height / 2) * view.zoom;
  view.fitted = false;
  place();
  uncover(region);
}

// Move the divider beside the region, so that neither its line nor its handle lies on the region, and the pane that shows
// the anomalies is on it: the right one, or with data-shows="left" the left one.
function uncover(region) {
  if (stage.dataset.mode !== "slider") return;
  const left = view.x + region.x * view.zoom, right = left + region.width * view.zoom;
  const at = find("#cut").value / 100 * stage.clientWidth;
  if (stage.dataset.shows === "left") {
    if (at < right + DIVIDER) setCut(100 * (right + DIVIDER) / stage.clientWidth);
  } else if (at > left - DIVIDER && at < right + DIVIDER) setCut(100 * (left - DIVIDER) / stage.clientWidth);
}

function light(index) {
  for (const node of findAll("[data-region]")) node.classList.toggle("lit", node.dataset.region === index);
}

function setMode(mode) {
  stage.dataset.mode = mode;
  find(`input[name="mode"][value="${mode}"]`).checked = true;
  find(".cut").hidden = mode !== "slider";
  fit();
}

const setCut = (value) => {
  find("#cut").value = value;
  stage.style.setProperty("--cut", `${Math.min(Math.max(value, 0), 100)}%`);
};

// Position of the pointer in its pane. Both panes show the same place.
function inPane(event) {
  const box = stage.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  const side = stage.dataset.mode === "side", stacked = stage.classList.contains("stacked");
  const right = side && !stacked && x > box.width / 2, below = side && stacked && y > box.height / 2;
  return { x: right ? x - box.width / 2 - 1 : x, y: below ? y - box.height / 2 - 1 : y, share: 100 * x / box.width };
}

const pointers = new Map();
let cutting = false;
stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  cutting = event.target.classList.contains("divider");
  pointers.set(event.pointerId, inPane(event));
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  const to = inPane(event), from = pointers.get(event.pointerId);
  hover = to;
  if (!from) return showReadout();
  if (cutting) return setCut(to.share);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  view.x += (to.x - from.x) / pointers.size;
  view.y += (to.y - from.y) / pointers.size;
  if (other) zoomBy(Math.hypot(to.x - other.x, to.y - other.y) / Math.max(1, Math.hypot(from.x - other.x, from.y - other.y)), other.x, other.y);
  else place();
  pointers.set(event.pointerId, to);
});
for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => pointers.delete(event.pointerId));
stage.addEventListener("pointerleave", () => {
  hover = null;
  showReadout();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const { x, y } = inPane(event);
  zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), x, y);
}, { passive: false });
stage.addEventListener("dblclick", (event) => {
  const { x, y } = inPane(event);
  if (!event.target.classList.contains("divider")) zoomBy(2.5, x, y);
});
find("#cut")?.addEventListener("input", (event) => setCut(event.target.value));
find("#boxes")?.addEventListener("change", (event) => findAll(".boxes").forEach((svg) => svg.classList.toggle("off", !event.target.checked)));
find(".modes")?.addEventListener("change", (event) => setMode(event.target.value));
for (const button of findAll("[data-zoom]")) {
  button.addEventListener("click", () => button.dataset.zoom === "fit" ? fit() : zoomBy(Number(button.dataset.zoom)));
}
// After a click the arrow keys step through the parts again. Reached by Tab, they change the view, as for all radio buttons.
let pointed = false;
for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, () => { pointed = kind === "pointerdown"; }, true);
find(".modes")?.addEventListener("click", () => pointed && stage.focus());
new ResizeObserver(() => stage.clientWidth && (view.fitted ? fit() : place())).observe(stage);
