/* Review the part that is shown; buttons, keys and events; and the start of the page. This script comes last. */
const missedBoxes = () => current.marks.filter((mark) => mark.mark === "missed" && mark.box).map((mark) => mark.box);

// Actions run one after the other, in the order of the keys, and each on the part that was shown when its turn came.
let chain = Promise.resolve();
const inOrder = (action) => {
  chain = chain.then(action).catch((error) => showProblem(error.message));
};

// Whether a mark reviews the verdict of a part. Marks of another verdict, of an earlier model, do not.
const isReview = (mark, part) => mark.mark !== "comment" && (!mark.id || mark.verdict === part.verdict);

function showMarks() {
  const part = current;
  const times = (mark) => new Date(mark.made_at).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" });
  const entries = part.marks.map((mark) => {
    const text = [mark.mark, mark.comment && `“${mark.comment}”`, mark.box && `at x ${mark.box[0]}, y ${mark.box[1]}`].filter(Boolean).join(" ");
    const by = mark.id ? `${mark.made_by || "from a table"}, ${times(mark)}` : "not stored yet";
    const other = mark.verdict && mark.verdict !== part.verdict ? ` (the verdict was ${mark.verdict})` : "";
    const entry = element("li", {}, element("strong", {}, text), element("small", {}, by + other));
    if (mark.id) entry.append(element("button", { type: "button", "data-withdraw": mark.id, "aria-label": `Take back: ${text}` }, "✕"));
    return entry;
  });
  find("#mark-list").replaceChildren(...entries);
  const reviewed = part.marks.filter((mark) => isReview(mark, part)).map((mark) => mark.mark);
  find("#marks").textContent = reviewed.length ? `✓ ${[...new Set(reviewed)].join(", ")}` : part.verdict === "error" ? "" : "not reviewed";
  for (const button of findAll("[data-verb]")) {
    const verb = button.dataset.verb;
    if (["confirmed", "false alarm", "missed"].includes(verb)) button.setAttribute("aria-pressed", String(reviewed.includes(verb)));
    const impossible = { "confirmed": part.verdict === "error", "missed": part.verdict === "error", "false alarm": part.verdict !== "fail" };
    button.disabled = Boolean(impossible[verb]);
  }
  showMissed(missedBoxes());
}

function addMark(mark, more = {}) {
  const { type, image } = current;
  current.marks = [...current.marks.filter((known) => known.id || known.mark !== mark), { mark, comment: "", box: null, ...more }];
  if (mark !== "comment" && order[at]) order[at][3] = true;
  showMarks();
  sendMark({ path: "/marks", body: { type, image, mark, ...more } });
}

async function review(mark) {
  await ready;
  if (find(`[data-verb="${mark}"]`).disabled) {
    const why = current.verdict === "error" ? "could not be processed: write a comment" : "passed, so it cannot be a false alarm";
    return showProblem(`${current.image} ${why}.`);
  }
  showProblem("");
  addMark(mark);
  if (find("#advance").checked) await step(1);
}

async function reviewMissed() {
  await ready;
  if (find('[data-verb="missed"]').disabled) return;
  const part = current;
  await new Promise((done) => startDrawing((box) => {
    if (box && current === part) addMark("missed", { box });
    else showMissed(missedBoxes());
    done();
  }));
}

function onStored({ body }, { marks, counts, undone }) {
  if (counts) showCounts(counts);
  const { type, image } = undone || body;
  if (undone) {
    const entry = order.find((part) => part[0] === type && part[1] === image);
    if (entry) entry[3] = (marks || []).some((mark) => isReview(mark, { verdict: entry[2] }));
    inOrder(() => open(type, image));
  }
  if (!marks) return;
  fetched.get(keyOf(type, image))?.then((details) => Object.assign(details, { marks })).catch(() => {});
  if (current.type === type && current.image === image) {
    current.marks = marks;
    if (current.views && !drawing.done) showMarks();
  }
}

// Read the marks again if others may have changed them since they were read.
let changed = 0, refreshing = false;
async function refreshMarks() {
  const part = current, asked = performance.now();
  if (refreshing || !part?.views || part.fetched >= changed || waiting.length || drawing.done) return;
  refreshing = true;
  const details = await get(addressOf("/part.json", part)).catch(() => null);
  refreshing = false;
  if (details && !waiting.length && !drawing.done) {
    Object.assign(part, { marks: details.marks, fetched: asked });
    if (current === part) showMarks();
    refreshMarks();
  }
}

function onRefused({ body }, error) {
  showProblem(error.message);
  if (!body?.image) return;
  fetched.delete(keyOf(body.type, body.image));
  if (body.image === current.image && body.type === current.type) inOrder(() => open(body.type, body.image));
}

async function step(by) {
  const next = order[at < 0 ? 0 : at + by];
  if (next) await Promise.race([open(next[0], next[1]), Promise.resolve()]);
  else showProblem(by > 0 ? "This is the last part." : "This is the first part.");
}

async function stepToLeft() {
  const isLeft = ([, , verdict, reviewed]) => !reviewed && verdict !== "error";
  const next = order.find((entry, index) => index > at && isLeft(entry)) || order.find(isLeft);
  if (next) await Promise.race([open(next[0], next[1]), Promise.resolve()]);
  else showProblem("Nothing is left to review.");
}

function startComment() {
  find("#comment-form").hidden = false;
  find("#comment").value = current.marks.filter((mark) => mark.mark === "comment").at(-1)?.comment || "";
  find("#comment").focus();
  find("#comment").select();
}

function stopComment() {
  if (find("#comment-form").contains(document.activeElement)) stage.focus();
  find("#comment-form").hidden = true;
}

function otherView() {
  const here = current.views.filter((seen) => seen.is_here);
  const next = here[(here.findIndex((seen) => seen.type === current.type) + 1) % here.length];
  if (next) return open(next.type, next.image);
}

function changeOutlines(by) {
  const input = find("#outline-opacity");
  input.value = Number(input.value) + by;
  showOpacity();
}

function showOpacity() {
  stage.style.setProperty("--outlines", find("#outline-opacity").value / 100);
  stage.style.setProperty("--tint", find("#tint-opacity").value / 100);
  showTint();
}

// Back to the list, when the marks on their way are stored; the browser asks if the server does not answer.
const back = () => inOrder(async () => {
  for (let looks = 0; waiting.length && looks < 40; looks += 1) await new Promise((done) => setTimeout(done, 50));
  location.assign(whole(""));
});
const modes = ["slider", "side", "photo", "reference"];
const verbs = {
  confirmed: () => inOrder(() => review("confirmed")), "false alarm": () => inOrder(() => review("false alarm")),
  missed: () => inOrder(reviewMissed), comment: () => inOrder(async () => (await ready, startComment())),
  undo: () => inOrder(() => sendMark({ path: "/marks/undo", body: {} })),
};
const next = () => inOrder(() => (showProblem(""), step(1))), previous = () => inOrder(() => (showProblem(""), step(-1)));
const keys = {
  c: verbs.confirmed, f: verbs["false alarm"], m: verbs.missed, t: verbs.comment, u: verbs.undo,
  n: () => inOrder(stepToLeft), o: () => inOrder(otherView),
  j: next, ArrowRight: next, ArrowDown: next, k: previous, ArrowLeft: previous, ArrowUp: previous,
  "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: fit,
  b: () => find("#boxes").click(), "[": () => changeOutlines(-10), "]": () => changeOutlines(10),
  v: () => setMode(modes[(modes.indexOf(stage.dataset.mode) + 1) % modes.length]),
  r: () => setMode(stage.dataset.mode === "reference" ? "photo" : "reference"),
  Escape: back,
};
const ONCE = ["c", "f", "m", "t", "u"]; // a key that is held down reviews one part only
document.addEventListener("keydown", (event) => {
  if (drawing.done) return drawWithKeys(event);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches('input[type="text"]')) {
    if (event.key === "Escape" && event.target.id === "comment") stopComment();
    return;
  }
  if (event.target.matches('[type="range"], [type="radio"]') && event.key.startsWith("Arrow")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let action = keys[key];
  if (key === "?") action = () => (find("#help").open ? find("#help").close() : find("#help").showModal());
  else if (find("#help").open) return;
  else if (key >= "1" && key <= "9" && key.length === 1) action = () => goTo(current.regions[key - 1]);
  if (!action) return;
  event.preventDefault();
  if (!(event.repeat && ONCE.includes(key))) action();
});
for (const button of findAll("[data-verb]")) button.addEventListener("click", () => verbs[button.dataset.verb]());
for (const button of findAll("[data-step]")) button.addEventListener("click", button.dataset.step > 0 ? next : previous);
find("#comment-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const comment = find("#comment").value.trim();
  stopComment();
  if (comment) addMark("comment", { comment });
});
find("#mark-list").addEventListener("click", (event) => {
  const { type, image } = current;
  const id = Number(event.target.dataset.withdraw);
  if (id) sendMark({ path: "/marks/withdraw", body: { type, image, id } });
});
find("#views").addEventListener("click", (event) => {
  const view = event.target.closest("[data-view]")?.dataset.view;
  if (!view || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  inOrder(() => open(...JSON.parse(view)));
});
find("#regions").addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-region]");
  if (row) goTo(current.regions[row.dataset.region]);
});
for (const kind of ["pointerover", "focusin"]) {
  find("#regions").addEventListener(kind, (event) => light(event.target.closest("tr[data-region]")?.dataset.region));
}
find("#regions").addEventListener("pointerleave", () => light());
for (const name of ["#outline-opacity", "#tint-opacity"]) find(name).addEventListener("input", showOpacity);
find("#help-button").addEventListener("click", () => find("#help").showModal());
find("#help .close").addEventListener("click", () => find("#help").close());

// Parts that validate --watch adds, and marks of others, appear without a reload.
let version = null, marksVersion = null;
const events = new EventSource(base + "/events");
events.addEventListener("message", async (event) => {
  const state = JSON.parse(event.data);
  if (!waiting.length) showCounts(state.counts);
  const isNew = version !== null && version !== state.version, isMarked = marksVersion !== null && marksVersion !== state.marks;
  [version, marksVersion] = [state.version, state.marks];
  if (isNew) {
    fetched.clear();
    await loadOrder().catch((error) => showProblem(error.message));
  }
  if (isMarked) changed = performance.now();
  refreshMarks();
});
addEventListener("pagehide", () => events.close());

find("#back").href = whole("");
setCut(find("#cut").value);
showOpacity();
sendWaiting();
inOrder(async () => {
  await loadOrder();
  const [type, image] = asked[1] === null ? order[0] || [] : asked;
  if (type === undefined) return showProblem("No part matches; go back to the list.");
  await open(type, image);
  stage.focus();
});
