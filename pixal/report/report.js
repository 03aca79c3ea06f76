/* Data of the page: parts, marks, trial threshold, table. */
const results = JSON.parse(find("#results").textContent);
const rows = findAll("#parts tbody tr");
const parts = results.parts.map((part, index) => ({ ...part, index, regions: part.regions || [], row: rows[index] }));
const state = { sort: "ratio", descending: true, text: "", verdict: "all", type: "", range: null, factor: 1 };
let shown = parts; // the rows of the table, in order; the detail view steps through them

// Marks are stored by the browser if possible, by part and score: a later batch starts without marks.
const storeKey = "pixal-marks:" + results.component;
const identity = (part) => JSON.stringify([part.type, part.image, part.source, part.score]);
let marks = {};
try {
  marks = JSON.parse(localStorage.getItem(storeKey)) || {};
  localStorage.setItem(storeKey, JSON.stringify(marks));
} catch {
  find("#marks-note").hidden = false;
}
const markOf = (part) => marks[identity(part)] || "";
const markFor = (part) => ({ fail: "false alarm", pass: "missed" })[part.verdict];

function toggleMark(part) {
  if (!part || !markFor(part)) return;
  if (markOf(part)) delete marks[identity(part)];
  else marks[identity(part)] = markFor(part);
  try {
    localStorage.setItem(storeKey, JSON.stringify(marks));
  } catch {
    find("#marks-note").hidden = false;
  }
  showMarks();
}

function showMarks() {
  for (const part of parts) find(".mark", part.row)?.setAttribute("aria-pressed", String(Boolean(markOf(part))));
  const count = parts.filter(markOf).length;
  find("#mark-count").textContent = count ? `${count} marked` : "";
  find("#export").disabled = count === 0;
  if (current) showDetailMark();
}

// A spreadsheet evaluates cells that start with = + - @ as formulas: put an apostrophe before such text.
function csvCell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value !== "number" && /^[\s]*[=+\-@]|^[\t\r\n]/.test(text)) text = "'" + text;
  return '"' + text.replaceAll('"', '""') + '"';
}

function exportMarks() {
  const table = [["component", "created", "type", "image", "source", "verdict", "score", "threshold", "mark"]];
  for (const part of parts.filter(markOf)) {
    table.push([results.component, results.created, part.type, part.image, part.source, part.verdict, part.score, part.threshold, markOf(part)]);
  }
  const text = "\ufeff" + table.map((line) => line.map(csvCell).join(",") + "\r\n").join("");
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  element("a", { href: address, download: results.component.replace(/[^\w.-]+/g, "_") + "_marks.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// The verdict with another threshold. The stored verdicts do not change.
const canMove = (part) => part.score !== null && part.threshold !== null && part.threshold > 0 && part.verdict !== "error";
function verdictAt(part, factor) {
  const now = part.score > part.threshold;
  const then = part.score > part.threshold * factor;
  return canMove(part) && now !== then ? (then ? "fail" : "pass") : part.verdict;
}
const changes = (part) => verdictAt(part, state.factor) !== part.verdict;

function showWhatIf() {
  const factor = state.factor;
  const fails = (verdict) => parts.filter((part) => verdict(part) === "fail");
  const before = fails((part) => part.verdict);
  const after = fails((part) => verdictAt(part, factor));
  for (const part of parts) {
    const changed = changes(part);
    if (part.row.classList.contains("changed") === changed) continue;
    part.row.classList.toggle("changed", changed);
    find(".would", part.row).textContent = changed ? `would ${verdictAt(part, factor)}` : "";
  }
  find("#factor-text").textContent = "× " + factor.toFixed(2);
  find("#factor-reset").disabled = factor === 1;
  find("#what-if").classList.toggle("active", factor !== 1);
  let text = "Move the slider to see which verdicts would change.";
  if (factor !== 1) {
    const changed = parts.filter(changes);
    const toFail = changed.filter((part) => verdictAt(part, factor) === "fail").length;
    text = `${after.length} would fail instead of ${before.length} (${toFail} more, ${changed.length - toFail} fewer).`;
    const training = Object.values(results.types).flatMap((type) => type.training.map((score) => score > type.threshold * factor));
    if (training.length) text += ` Good training parts above: ${percent(training.filter(Boolean).length / training.length)}.`;
    for (const [label, name] of [[1, "Detected"], [0, "False alarms"]]) {
      const known = parts.filter((part) => part.truth && part.truth.label === label && part.verdict !== "error");
      const share = (list) => percent(list.filter((part) => known.includes(part)).length / known.length);
      if (known.length) text += ` ${name}: ${share(before)} → ${share(after)}.`;
    }
  }
  find("#what-if-text").textContent = text;
  for (const chart of charts) chart.move(factor);
  if (state.verdict === "changed") refresh();
}

// The table.
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const kindOf = (part) => (part.truth ? (part.truth.label ? part.truth.kind || "defective" : "good") : null);
const columns = {
  image: (part) => part.image,
  type: (part) => part.type,
  verdict: (part) => ["pass", "error", "fail"].indexOf(part.verdict),
  score: (part) => part.score,
  ratio: (part) => (part.score === null || !(part.threshold > 0) ? null : part.score / part.threshold),
  p_value: (part) => part.p_value,
  count: (part) => part.regions.length,
  largest: (part) => (part.regions.length ? Math.max(...part.regions.map((region) => region.area_px)) : null),
  truth: kindOf,
  mark: (part) => markOf(part) || null,
};

// Parts without a value come last in both directions.
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "string" ? collator.compare(a, b) : a - b);
}

function matches(part) {
  const { verdict, type, range, text } = state;
  if (verdict === "marked" ? !markOf(part) : verdict === "changed" ? !changes(part) : verdict !== "all" && part.verdict !== verdict) return false;
  if (type && part.type !== type) return false;
  if (range && !(part.type === range.type && part.score >= range.low && part.score < range.high)) return false;
  return [part.image, part.type, part.reason, part.source, kindOf(part), markOf(part)].join("\n").toLowerCase().includes(text);
}

function refresh() {
  const value = columns[state.sort];
  const sign = state.descending ? -1 : 1;
  shown = parts.filter(matches).sort((a, b) => compare(value(a), value(b), sign) || a.index - b.index);
  for (const part of parts) part.row.hidden = true;
  const list = document.createDocumentFragment();
  for (const part of shown) {
    part.row.hidden = false;
    list.append(part.row);
  }
  find("#parts tbody").append(list);
  for (const button of findAll("[data-sort]")) {
    const heading = button.closest("th");
    if (button.dataset.sort === state.sort) heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  }
  find("#shown").textContent = shown.length === parts.length ? `${parts.length} photographs` : `${shown.length} of ${parts.length} photographs`;
  find("#empty").hidden = shown.length > 0;
  find("#verdict").value = state.verdict;
  const range = find("#range");
  range.hidden = !state.range;
  if (state.range) range.textContent = `${state.range.type}: score ${figure(state.range.low, 3)} to ${figure(state.range.high, 3)} ✕`;
}

function filter(change) {
  Object.assign(state, change);
  refresh();
}

function sortBy(key) {
  const descendsFirst = !["image", "type", "truth", "p_value"].includes(key);
  filter({ sort: key, descending: state.sort === key ? !state.descending : descendsFirst });
}

function stepFocus(by) {
  const at = shown.findIndex((part) => part.row.contains(document.activeElement));
  const next = shown[Math.min(Math.max(at + by, 0), shown.length - 1)];
  if (next) find(".open", next.row).focus();
}
