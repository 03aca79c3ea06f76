/* Histogram of a type's scores: this batch above the axis, the good training parts below it. */
function distribution(holder) {
  const name = holder.dataset.type;
  const { threshold, training } = results.types[name];
  const batch = parts.filter((part) => part.type === name && part.score !== null);
  const values = [...batch.map((part) => part.score), ...training, ...(threshold === null ? [] : [threshold])];
  if (!values.length) return { move() {} };
  const W = 560, H = 200, left = 12, right = 12, axis = 140, bins = 44;
  const logarithmic = Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 12;
  const forward = logarithmic ? Math.log : (value) => value;
  const backward = logarithmic ? Math.exp : (value) => value;
  const low = Math.min(...values.map(forward)), high = Math.max(...values.map(forward));
  const step = ((high - low) || 1) / bins;
  const anchor = threshold === null ? low : forward(threshold); // a bin edge at the threshold: no bar crosses it
  const binOf = (value) => Math.ceil((forward(value) - anchor) / step - 1e-9) - 1; // (low, high]: a part fails above the threshold
  const first = binOf(backward(low)) - 1, last = binOf(backward(high)) + 2;
  const place = (u) => left + ((u - anchor) / step - first) / (last - first) * (W - left - right);
  const svg = drawn("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
  const above = batch.filter((part) => part.verdict === "fail").length;
  svg.setAttribute("aria-label", `Scores of ${name}: ${batch.length} parts, ${above} failed, threshold ${figure(threshold)}, ${training.length} good training parts`);

  function bars(list, groups, groupOf, scoreOf, height, direction) {
    const count = new Map();
    for (const item of list) {
      const bin = binOf(scoreOf(item));
      if (!count.has(bin)) count.set(bin, Object.fromEntries(groups.map((group) => [group, 0])));
      count.get(bin)[groupOf(item)] += 1;
    }
    const total = (tally) => groups.reduce((sum, group) => sum + tally[group], 0);
    const most = Math.max(1, ...[...count.values()].map(total));
    for (const [bin, tally] of [...count].sort(([a], [b]) => a - b)) {
      let done = 0;
      for (const group of groups.filter((key) => tally[key])) {
        const [from, to] = [anchor + bin * step, anchor + (bin + 1) * step];
        const tall = tally[group] / most * height;
        const y = direction < 0 ? axis - done - tall : axis + done;
        const bar = drawn("rect", { class: group, x: place(from), y, width: place(to) - place(from), height: tall });
        bar.append(drawn("title", {}, `${tally[group]} ${group}, score ${figure(backward(from), 3)} to ${figure(backward(to), 3)}`));
        // Shifted by 5e-7 of a bin: bins include their upper edge, the filter includes its lower one.
        if (direction < 0) Object.assign(bar.dataset, { low: backward(from + step * 5e-7), high: backward(to + step * 5e-7) });
        svg.append(bar);
        done += tall;
      }
    }
    return most;
  }

  const withTruth = batch.some((part) => part.truth);
  const groups = withTruth ? ["good", "defective", "pass", "fail"] : ["pass", "fail", "error"];
  const groupOf = (part) => (part.truth ? (part.truth.label ? "defective" : "good") : part.verdict);
  const most = bars(batch, groups, groupOf, (part) => part.score, 112, -1);
  bars(training, ["training"], () => "training", (score) => score, 34, 1);
  svg.append(drawn("path", { class: "axis", d: `M${left} ${axis}H${W - right}` }));
  for (const tick of ticks(backward(anchor + first * step), backward(anchor + last * step), logarithmic)) {
    const x = place(forward(tick));
    svg.append(drawn("path", { class: "axis", d: `M${x} ${H - 20}v5` }), drawn("text", { x, y: H - 3, "text-anchor": "middle" }, figure(tick, 3)));
  }
  const moved = drawn("path", { class: "moved" });
  svg.append(moved);
  if (threshold !== null) {
    const x = place(forward(threshold));
    const flip = x > W - 120;
    svg.append(drawn("path", { class: "threshold", d: `M${x} 14V${H - 20}` }));
    svg.append(drawn("text", { class: "threshold", x: x + (flip ? -5 : 5), y: 22, "text-anchor": flip ? "end" : "start" }, `threshold ${figure(threshold, 3)}`));
  }
  svg.addEventListener("click", ({ target }) => {
    const bar = target.closest("rect[data-low]");
    if (!bar) return;
    filter({ range: { type: name, low: Number(bar.dataset.low), high: Number(bar.dataset.high) } });
    find(".toolbar").scrollIntoView({ behavior: "smooth" });
  });
  const legend = element("p", { class: "legend" }, `Score${logarithmic ? " (logarithmic)" : ""}. Above: this batch, at most ${most} per bar `);
  for (const group of groups.filter((key) => batch.some((part) => groupOf(part) === key))) legend.append(element("i", { class: group }), ` ${group} `);
  if (training.length) legend.append(" · below: ", element("i", { class: "training" }), " good training parts");
  holder.append(svg, legend);
  return {
    move(factor) {
      const x = threshold > 0 && factor !== 1 ? Math.min(Math.max(place(forward(threshold * factor)), left), W - right) : null;
      moved.setAttribute("d", x === null ? "" : `M${x} 28V${H - 20}`);
    },
  };
}

function ticks(low, high, logarithmic) {
  const list = [];
  if (logarithmic) {
    const steps = high / low > 300 ? [1] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      list.push(...steps.map((step) => step * 10 ** power).filter((tick) => tick >= low && tick <= high));
    }
    return list;
  }
  const rough = (high - low) / 7, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((size) => size * unit >= rough);
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) list.push(Number(tick.toPrecision(12)));
  return list;
}
