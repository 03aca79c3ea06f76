/* One part at a time: its pictures, values and marks. Parts near it are fetched before they are asked for. */
const query = new URLSearchParams(location.search);
const asked = [query.get("type"), query.get("image")];
query.delete("type");
query.delete("image");
const filterText = query.toString();
const component = find("#review").dataset.component;
const [tint, reference] = [find("#tint"), find("#reference")];
const AHEAD = 3; // parts that are fetched before they are asked for
const LONGEST_WAIT = 8000; // milliseconds for a picture, after which the part can be reviewed without it
let order = [], at = -1, current = null, ready = Promise.resolve();
const fetched = new Map(); // key → promise of the details

const keyOf = (type, image) => JSON.stringify([type, image]);
const addressOf = (path, { type, image }, more = {}) => `${base}${path}?${new URLSearchParams({ type, image, ...more })}`;
const pictureOf = (kind, part) => addressOf(`/picture/${kind}`, part, { v: part.version + kind });
const whole = (path) => base + path + (filterText ? `?${filterText}` : "");

function detailsOf(type, image) {
  const key = keyOf(type, image);
  if (!fetched.has(key)) {
    const request = get(addressOf("/part.json", { type, image })).then((part) => Object.assign(part, { fetched: performance.now() }));
    request.catch(() => fetched.delete(key));
    fetched.set(key, request);
    if (fetched.size > 200) fetched.delete(fetched.keys().next().value);
  }
  return fetched.get(key);
}

async function loadOrder() {
  const found = await get(whole("/order.json"));
  order = found.parts;
  if (current) at = order.findIndex(([type, image]) => type === current.type && image === current.image);
  showCounts(found.counts);
  if (current) showPosition();
}

function showCounts({ reviewed, photographs, errors, left }) {
  find("#progress").textContent = left ? `${reviewed} of ${photographs - errors} reviewed, ${left} left` : `all ${reviewed} reviewed`;
}

const showPosition = () => {
  find("#position").textContent = `${at < 0 ? "" : `${at + 1} of ${order.length} · `}${current.type}`;
};

// Show a part. ``ready`` is fulfilled when its photograph is on the screen.
async function open(type, image) {
  at = order.findIndex((entry) => entry[0] === type && entry[1] === image);
  const verdict = order[at]?.[2];
  current = { type, image, verdict, marks: [], regions: [] };
  const part = current;
  find("#title").textContent = image;
  showPosition();
  stage.classList.add("loading");
  stopComment();
  history.replaceState(null, "", addressOf("/part", part, Object.fromEntries(query)));
  document.title = `${image} – PIXAL`;
  ready = detailsOf(type, image).then((details) => current === part && show(details));
  try {
    await ready;
    fetchAhead();
  } catch (error) {
    showProblem(error.message);
    throw error;
  }
}

async function show(details) {
  current = details;
  const part = current;
  part.asksForFull = false;
  find("#verdict").replaceChildren(chip(part.verdict));
  find("#reason").textContent = part.reason;
  frame(part.width || 1, part.height || 1, part.regions);
  fit();
  showValues();
  showMarks();
  find(".outlines").replaceChildren();
  if (part.regions.length) showOutlines(part);
  tint.removeAttribute("src");
  showTint();
  const second = load(reference, pictureOf("reference", part));
  const found = await load(photo, pictureOf("photo", part));
  if (current !== part) return;
  photo.alt = `Photograph ${part.image}`;
  missing(found ? "" : "The photograph cannot be shown: it was moved, changed or deleted.");
  if (found && !part.width) frame(photo.naturalWidth, photo.naturalHeight, part.regions);
  if (view.fitted) fit();
  stage.classList.remove("loading");
  refreshMarks();
  second.then((hasReference) => current === part && stage.classList.toggle("alone", !hasReference));
}

// The tinted photograph is fetched only where it can be seen.
function showTint() {
  if (current?.version && !tint.hasAttribute("src") && Number(find("#tint-opacity").value)) load(tint, pictureOf("tint", current));
}

function missing(text) {
  find(".missing").textContent = text;
  find(".missing").hidden = !text;
}

// Put a picture into an element. Fulfilled with whether it could be shown.
function load(image, address) {
  return new Promise((done) => {
    const timer = setTimeout(() => done(false), LONGEST_WAIT);
    image.onload = image.onerror = (event) => {
      clearTimeout(timer);
      image.hidden = event.type === "error";
      done(event.type === "load");
    };
    image.src = address;
  });
}

function fetchAhead() {
  for (let next = at + 1; at >= 0 && next <= Math.min(at + AHEAD, order.length - 1); next += 1) {
    detailsOf(order[next][0], order[next][1]).then((part) => {
      for (const kind of ["photo", "reference"]) new Image().src = pictureOf(kind, part);
    }).catch(() => {});
  }
}

async function showOutlines(part) {
  const lines = await get(addressOf("/outlines.json", part)).catch(() => []);
  if (current !== part) return;
  const path = lines.map((line) => `M${line.map((point) => point.join(" ")).join("L")}Z`).join("");
  const svg = find(".outlines");
  svg.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
  svg.replaceChildren(...["halo", "line"].map((kind) => drawn("path", { class: kind, d: path })));
}

// The photograph itself replaces the reduced one when the zoom shows more than that has.
stage.addEventListener("placed", () => {
  const part = current;
  if (!part?.version || photo.hidden || photo.src.includes("/full?") || stage.classList.contains("loading")) return;
  if (!photo.naturalWidth || photo.naturalWidth >= part.width || view.zoom * part.width < 1.2 * photo.naturalWidth) return;
  const full = new Image();
  full.onload = () => {
    if (current === part) photo.src = full.src;
  };
  if (part.asksForFull) return;
  part.asksForFull = true;
  full.src = pictureOf("full", part);
});

function chip(verdict) {
  const icon = { pass: "✓", fail: "✕", error: "!" }[verdict] || "?";
  return element("span", { class: `chip ${verdict}` }, element("span", { "aria-hidden": "true" }, icon), ` ${verdict}`);
}

function showValues() {
  const part = current;
  const truth = part.true_label === null ? null : part.true_label ? part.true_kind || "defective" : "good";
  const values = [
    ["Score", figure(part.score)],
    ["Threshold", figure(part.threshold)],
    ["Score ÷ threshold", part.threshold > 0 && part.score !== null ? figure(part.score / part.threshold, 3) : "–"],
    ["p-value", figure(part.p_value, 2) + (part.p_value_extrapolated ? " (extrapolated)" : "")],
    ...(truth ? [["Truth", truth]] : []),
    ["Taken", part.taken.replace("T", " ")],
    ["Model", `${part.model}, trained ${part.trained.slice(0, 16).replace("T", " ")}`],
    ["File", part.source],
  ];
  if (part.reconstruction) values.push(["Model's view", element("a", { href: part.reconstruction }, "input and reconstruction")]);
  if (part.overlay) values.push(["Figure", element("a", { href: part.overlay }, "overlay at full size")]);
  find("#figures").replaceChildren(...values.flatMap(([label, text]) => [element("dt", {}, label), element("dd", {}, text)]));
  const rows = part.regions.map((region, index) => element("tr", { "data-region": index },
    element("td", {}, element("button", { type: "button", "aria-label": `Go to region ${index + 1}` }, String(index + 1))),
    element("td", {}, figure(region.peak, 3)), element("td", {}, figure(region.area_px)), element("td", {}, region.channel || "–")));
  find("#regions thead").replaceChildren(element("tr", {}, ...["#", "Peak", "px²", "Channel"].map((head) => element("th", { scope: "col" }, head))));
  find("#regions tbody").replaceChildren(...rows);
  find("#regions").hidden = !rows.length;
  find("#regions-title").textContent = rows.length ? `Regions (${rows.length})` : "No regions";
  showViews();
}

function showViews() {
  const others = current.views.filter((seen) => !(seen.is_here && seen.type === current.type && seen.image === current.image));
  const entries = others.map((seen) => {
    const label = [seen.is_here ? seen.type : `${seen.type}, batch ${seen.batch}`, seen.is_reviewed ? "reviewed" : ""].filter(Boolean).join(" · ");
    const parent = seen.is_here ? base : `${component}/b/${encodeURIComponent(seen.batch)}`;
    const address = (path) => `${parent}${path}?${new URLSearchParams({ type: seen.type, image: seen.image })}`;
    const link = element("a", { href: address("/part") }, element("img", { src: address("/picture/thumbnail"), alt: "", width: 78, height: 44, loading: "lazy" }),
      element("span", {}, label), chip(seen.verdict));
    if (seen.is_here) link.dataset.view = keyOf(seen.type, seen.image);
    return element("li", {}, link);
  });
  find("#views").replaceChildren(...entries);
  find("#views-title").textContent = entries.length ? `Other views of ${current.part}` : "No other views of this part";
}
