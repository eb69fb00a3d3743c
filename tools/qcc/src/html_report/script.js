"use strict";
(() => {
  const table = document.getElementById("layers");
  if (!table) return;
  const histograms = JSON.parse(document.getElementById("histograms").textContent);
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];
  const filter = document.getElementById("filter");
  const changed = document.getElementById("changed");
  const details = new Map();
  document.documentElement.classList.add("scripted");
  document.querySelector(".tools").hidden = false;

  // Sorting: up, down, the order of the model. What is missing stands last both ways.
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (column, number, sign) => (a, b) => {
    const [x, y] = [a, b].map((row) => row.cells[column].dataset.sort);
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    if (!number) return sign * collator.compare(x, y);
    return x === y ? 0 : sign * (Number(x) - Number(y));
  };
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  headers.forEach((header, column) => {
    const button = header.querySelector("button");
    button.disabled = false;
    button.addEventListener("click", () => {
      const order = next[header.getAttribute("aria-sort")];
      for (const other of headers) other.setAttribute("aria-sort", other === header ? order : "none");
      const sorted = [...rows];
      if (order !== "none") {
        sorted.sort(compare(column, "number" in header.dataset, order === "ascending" ? 1 : -1));
      }
      body.append(...sorted.flatMap((row) => (details.has(row) ? [row, details.get(row)] : [row])));
    });
  });

  // Filtering: every word has to stand somewhere in the row.
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const refilter = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((row, i) => {
      const wanted = !changed.checked || row.classList.contains("changed");
      row.hidden = !wanted || !words.every((word) => texts[i].includes(word));
      if (details.has(row)) details.get(row).hidden = row.hidden;
      shown += !row.hidden;
    });
    document.getElementById("count").value = `${shown} of ${rows.length} layers`;
  };
  filter.addEventListener("input", refilter);
  changed.addEventListener("change", refilter);
  refilter();

  // Expanding: a row below the layer's own with its histograms, drawn when it is first opened.
  const expand = (row, open) => {
    const button = row.querySelector(".toggle");
    if (!button) return;
    button.setAttribute("aria-expanded", String(open));
    if (open && !details.has(row)) {
      details.set(row, detail(rows.indexOf(row), row.cells[0].dataset.sort));
      row.after(details.get(row));
    } else if (!open && details.has(row)) {
      details.get(row).remove();
      details.delete(row);
    }
  };
  rows.forEach((row, i) => {
    if (!histograms[i].some(Boolean)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "toggle";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `Histograms of ${row.cells[0].dataset.sort}`);
    button.addEventListener("click", () => expand(row, !details.has(row)));
    row.querySelector(".layer").prepend(button);
  });

  const detail = (index, name) => {
    const row = document.createElement("tr");
    const cell = row.appendChild(document.createElement("td"));
    const box = cell.appendChild(document.createElement("div"));
    row.className = "detail";
    cell.colSpan = headers.length;
    const space = table.parentElement.clientWidth;
    ["Weights", "Activations"].forEach((what, i) => {
      const pair = histograms[index][i];
      if (pair) box.append(figure(what, name, pair, Math.min(560, space > 700 ? space / 2 - 40 : space - 24)));
    });
    return row;
  };

  // A layer's values before (area) and after (line), as shares of all values on a logarithmic axis that shows tails.
  const [height, left, right, top, bottom] = [200, 60, 10, 8, 38];
  const figure = (what, name, pair, width) => {
    const unit = (pair[0][1] - pair[0][0]) / pair[0][2].length;
    const shares = pair.map(([low, high, counts]) => {
      const total = counts.reduce((sum, n) => sum + n, 0);
      const scale = unit / ((high - low) / counts.length) / total;
      return counts.map((n) => n * scale);
    });
    const positive = shares.flat().filter((share) => share > 0);
    const most = Math.max(...positive) * 1.2;
    const least = Math.max(Math.min(...positive) / 2, most / 1e7);
    const [low, high] = [Math.min(pair[0][0], pair[1][0]), Math.max(pair[0][1], pair[1][1])];
    const x = (value) => left + ((value - low) / (high - low)) * (width - left - right);
    const y = (share) =>
      height - bottom - (Math.log(Math.max(share, least) / least) / Math.log(most / least)) * (height - top - bottom);

    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
    svg.append(element("title", {}, `${what} of ${name} before and after quantization`));
    const ranges = pair.map((h, i) => `${["before", "after"][i]} ${short(h[0])} to ${short(h[1])}`).join(", ");
    svg.append(element("desc", {}, `Range of values: ${ranges}.`));
    const decades = Math.ceil(Math.log10(most / least) / 5);
    for (let power = Math.floor(Math.log10(most)); 10 ** power >= least; power -= decades) {
      const at = y(10 ** power);
      svg.append(element("path", { class: "grid", d: `M${left} ${at.toFixed(1)}H${width - right}` }));
      const label = power > -5 ? `${short(10 ** (power + 2))} %` : `1e${power + 2} %`;
      svg.append(element("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, label));
    }
    for (const value of ticks(low, high)) {
      svg.append(element("text", { x: x(value), y: height - bottom + 15, "text-anchor": "middle" }, short(value)));
    }
    svg.append(element("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "value"));
    const middle = (top + height - bottom) / 2;
    const turned = { x: 10, y: middle, "text-anchor": "middle", transform: `rotate(-90 10 ${middle})` };
    svg.append(element("text", turned, "share of values"));
    pair.forEach(([from, to, counts], i) => {
      const base = (height - bottom).toFixed(1);
      const step = (to - from) / counts.length;
      const bins = shares[i].map((share, bin) => `V${y(share).toFixed(1)}H${x(from + (bin + 1) * step).toFixed(1)}`);
      svg.append(element("path", { class: ["before", "after"][i], d: `M${x(from).toFixed(1)} ${base}${bins.join("")}V${base}` }));
    });

    const result = document.createElement("figure");
    const legend = result.appendChild(document.createElement("figcaption"));
    legend.className = "legend";
    legend.append(Object.assign(document.createElement("b"), { textContent: what }));
    for (const name of ["before", "after"]) {
      const entry = legend.appendChild(document.createElement("span"));
      entry.append(Object.assign(document.createElement("i"), { className: `key ${name}` }), name);
    }
    result.append(svg);
    return result;
  };
  const element = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const short = (value) => {
    const rounded = Number(value.toPrecision(4));
    return Math.abs(rounded) < 1e5 ? String(rounded) : rounded.toExponential();
  };
  const ticks = (low, high) => {
    const magnitude = 10 ** Math.floor(Math.log10((high - low) / 5));
    const step = [1, 2, 5, 10].map((digit) => digit * magnitude).find((step) => (high - low) / step <= 6);
    const first = Math.ceil(low / step);
    return [0, 1, 2, 3, 4, 5, 6].map((i) => (first + i) * step).filter((value) => value <= high);
  };

  // Plots: what the pointer is on is told below, and a click leads to the layer in the table.
  for (const plot of document.querySelectorAll(".plot")) {
    const readout = plot.querySelector(".readout");
    const area = plot.querySelector(".area");
    const hits = [...area.querySelectorAll(".hit")];
    area.addEventListener("pointerover", (event) => {
      const hit = event.target.closest(".hit");
      readout.textContent = hit ? hit.textContent.split("\n").join(" · ") : readout.dataset.default;
    });
    area.addEventListener("pointerleave", () => (readout.textContent = readout.dataset.default));
    area.addEventListener("click", (event) => {
      const row = rows[hits.indexOf(event.target.closest(".hit"))];
      if (!row) return;
      if (row.hidden) {
        filter.value = "";
        changed.checked = false;
        refilter();
      }
      for (const other of rows) other.classList.toggle("found", other === row);
      expand(row, true);
      row.scrollIntoView({ block: "center" });
    });
  }
})();
