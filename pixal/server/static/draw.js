/* Draw a box around a defect that was missed: with the pointer, or with keys. */
const drawing = { box: null, from: null, done: null };

// Existing boxes of missed defects, and the one that is being drawn, in pixels of the photograph.
function showMissed(boxes) {
  const svg = find(".missed");
  svg.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
  const drawnBox = ([x, y, width, height], name) => {
    const group = drawn("g", { class: name });
    for (const kind of ["halo", "line"]) group.append(drawn("rect", { class: kind, x, y, width, height }));
    return group;
  };
  svg.replaceChildren(...boxes.map((box) => drawnBox(box, "stored")), ...(drawing.box ? [drawnBox(drawing.box, "new")] : []));
}

function startDrawing(done) {
  const { clientWidth: width, clientHeight: height } = panes[0];
  const seen = { x: Math.max(0, -view.x / view.zoom), y: Math.max(0, -view.y / view.zoom) };
  seen.width = Math.min(view.width - seen.x, width / view.zoom);
  seen.height = Math.min(view.height - seen.y, height / view.zoom);
  const size = Math.max(4, Math.min(seen.width, seen.height) / 5);
  Object.assign(drawing, { done, from: null, box: [seen.x + (seen.width - size) / 2, seen.y + (seen.height - size) / 2, size, size] });
  if (stage.dataset.mode === "reference") setMode("photo");
  stage.classList.add("drawing");
  find("#drawing").hidden = false;
  stage.focus();
  redraw();
}

function stopDrawing(box) {
  const { done } = drawing;
  Object.assign(drawing, { box: null, from: null, done: null });
  stage.classList.remove("drawing");
  find("#drawing").hidden = true;
  done(box);
}

function redraw() {
  drawing.box = inside(drawing.box);
  showMissed(missedBoxes());
}

function inside([x, y, width, height]) {
  const size = [Math.min(Math.max(width, 2), view.width), Math.min(Math.max(height, 2), view.height)];
  return [Math.min(Math.max(x, 0), view.width - size[0]), Math.min(Math.max(y, 0), view.height - size[1]), ...size];
}

function drawWithKeys(event) {
  const step = Math.max(1, 12 / view.zoom);
  const [across, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [0, 0];
  if (event.key === "Enter") stopDrawing(drawing.box.map(Math.round));
  else if (event.key === "Escape") stopDrawing(null);
  else if (across || down) {
    const at = event.shiftKey ? 2 : 0;
    drawing.box[at] += across * step;
    drawing.box[at + 1] += down * step;
    redraw();
  } else return;
  event.preventDefault();
}

const inPhotograph = (event) => {
  const { x, y } = inPane(event);
  return [Math.min(Math.max((x - view.x) / view.zoom, 0), view.width), Math.min(Math.max((y - view.y) / view.zoom, 0), view.height)];
};
stage.addEventListener("pointerdown", (event) => {
  if (!drawing.done || event.button) return;
  event.stopImmediatePropagation();
  stage.setPointerCapture(event.pointerId);
  drawing.from = inPhotograph(event);
}, true);
stage.addEventListener("pointermove", (event) => {
  if (!drawing.from) return;
  event.stopImmediatePropagation();
  const [x, y] = inPhotograph(event), [left, top] = drawing.from;
  drawing.box = [Math.min(x, left), Math.min(y, top), Math.abs(x - left), Math.abs(y - top)];
  redraw();
}, true);
stage.addEventListener("pointerup", (event) => {
  if (!drawing.from) return;
  event.stopImmediatePropagation();
  drawing.from = null;
  if (drawing.box[2] * view.zoom > 4 && drawing.box[3] * view.zoom > 4) stopDrawing(drawing.box.map(Math.round));
}, true);
