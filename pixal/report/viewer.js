/* The detail view: photograph and overlay of one part, in two panes with a common zoom. */
const dialog = find("#detail"), overlay = find("#overlay");
let current = null;

const addressOf = (part) => "#" + encodeURIComponent(`${part.type}/${part.image}`);

function open(part) {
  current = part;
  const at = shown.indexOf(part);
  find("#detail-title").textContent = part.image;
  find("#detail-title").title = part.source || part.image;
  find("#detail-position").textContent = at < 0 ? part.type : `${at + 1} of ${shown.length} · ${part.type}`;
  find("#detail-verdict").replaceChildren(find(".chip", part.row).cloneNode(true));
  find("#detail-reason").textContent = part.reason || "";
  showFigures(part);
  showDetailMark();
  showImages(part);
  if (!dialog.open) dialog.showModal();
  fit();
  setAddress(addressOf(part));
}

function setAddress(address) {
  try {
    history.replaceState(null, "", address);
  } catch { /* some viewers forbid it; the page works without one address per part */ }
}

function showFigures(part) {
  const truth = kindOf(part);
  const ratio = columns.ratio(part);
  const figures = [
    ["Score", figure(part.score)],
    ["Threshold", figure(part.threshold)],
    ["Score ÷ threshold", figure(ratio, 3)],
    ["p-value", figure(part.p_value, 2) + (part.p_value_extrapolated ? " (extrapolated)" : "")],
    ...(truth ? [["Truth", truth]] : []),
    ...(changes(part) ? [["What if", `would ${verdictAt(part, state.factor)} at × ${state.factor.toFixed(2)}`]] : []),
    ...(part.width ? [["Photograph", `${part.width} × ${part.height} px`]] : []),
    ["File", part.source || part.image],
  ];
  find("#detail-figures").replaceChildren(...figures.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
  const link = find("#detail-overlay");
  link.hidden = !part.overlay;
  if (part.overlay) link.href = part.overlay;
  const metric = part.regions.some((region) => region.area_mm2 !== undefined && region.area_mm2 !== null);
  const heads = ["#", "Peak", metric ? "mm²" : "px²", metric ? "mm" : "px", "Channel"];
  const lines = part.regions.map((region, index) => element("tr", { "data-region": index },
    element("td", {}, element("button", { type: "button", "aria-label": `Go to region ${index + 1}` }, String(index + 1))),
    element("td", {}, figure(region.peak, 3)),
    element("td", { title: `${figure(region.area_px)} px²` }, metric ? figure(region.area_mm2, 3) : figure(region.area_px)),
    element("td", { title: `at x ${region.x}, y ${region.y}; ${region.width} × ${region.height} px` },
      metric ? `${figure(region.width_mm, 3)} × ${figure(region.height_mm, 3)}` : `${region.width} × ${region.height}`),
    element("td", {}, region.channel || "–")));
  find("#regions thead").replaceChildren(element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head))));
  find("#regions tbody").replaceChildren(...lines);
  find("#regions").hidden = !lines.length;
  find("#regions-title").textContent = lines.length ? `Regions (${lines.length})` : "No regions";
}

function showDetailMark() {
  const button = find("#detail-mark");
  button.hidden = !markFor(current);
  button.textContent = `${markOf(current) ? "Marked" : "Mark"} as ${markFor(current)}`;
  button.setAttribute("aria-pressed", String(Boolean(markOf(current))));
}

function showImages(part) {
  const address = (kind, index) => find(`#${kind}-${index}`)?.textContent;
  const missing = find(".missing");
  missing.hidden = part.has_images;
  missing.textContent = part.has_images ? "" : "There is no image of this part.";
  for (const pane of panes) pane.hidden = !part.has_images;
  find(".divider").hidden = !part.has_images;
  for (const [image, kind, words] of [[photo, "photo", "Photograph"], [overlay, "overlay", "Overlay"]]) {
    if (part.has_images) image.src = address(kind, part.index);
    else image.removeAttribute("src");
    image.alt = `${words} of ${part.image}`;
  }
  frame(part.width || photo.naturalWidth || 1, part.height || photo.naturalHeight || 1, part.regions);
  const next = shown[shown.indexOf(part) + 1];
  if (next && next.has_images) new Image().src = address("photo", next.index);
}

function step(by) {
  const at = shown.indexOf(current);
  const next = shown[at < 0 ? 0 : at + by];
  if (next) open(next);
}

for (const image of [photo, overlay]) {
  image.addEventListener("load", () => {
    if (image === photo && current && !current.width) {
      [view.width, view.height] = [photo.naturalWidth, photo.naturalHeight];
      fit();
    } else place();
  });
  image.addEventListener("error", () => {
    find(".missing").hidden = false;
    find(".missing").textContent = "The image cannot be read. Keep its folder next to this page.";
  });
}
dialog.addEventListener("close", () => {
  if (!current) return;
  const { row } = current;
  current = null;
  setAddress(location.pathname + location.search);
  row.scrollIntoView({ block: "nearest" });
  find(".open", row).focus();
});
dialog.addEventListener("click", (event) => {
  const { step: by } = event.target.dataset;
  const region = event.target.closest("tr[data-region]");
  if (by) step(Number(by));
  if (region) goTo(current.regions[region.dataset.region]);
});
for (const kind of ["pointerover", "focusin"]) {
  find("#regions").addEventListener(kind, (event) => light(event.target.closest("tr[data-region]")?.dataset.region));
}
find("#regions").addEventListener("pointerleave", () => light());
find("#detail-mark").addEventListener("click", () => toggleMark(current));
for (const button of findAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
