"use strict";
// Shows a cell or a case of the report. The address's fragment says which: "#case", "#case?numpy,torch" with the sources
// that stand side by side, "#case/implementation/dtype/device" for a cell. Whatever comes from a trajectory becomes
// text: nothing here is ever read as HTML, and what plotly.js draws goes through "plain".
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const matrix = document.getElementById("matrix");
  const view = document.getElementById("view");
  const title = document.title;
  const PALETTE = ["#bf5af2", "#e8590c", "#2b9348", "#c2255c", "#0b7285", "#a9800b", "#5c7cfa", "#868e96"];
  let scrolled = 0;

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== ""));
    return element;
  };
  // plotly.js reads some HTML in its texts.
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const path = (...parts) => "#" + parts.map(encodeURIComponent).join("/");
  const casePath = (one) => path(one.name);
  const cellPath = (cell) => path(data.cases[cell.case].name, cell.implementation, cell.dtype, cell.device);
  const sourcesPath = (one, labels) => casePath(one) + "?" + labels.map(encodeURIComponent).join(",");

  const routes = new Map();
  for (const one of data.cases) routes.set(casePath(one), (query) => showCase(one, query));
  for (const cell of data.cells) routes.set(cellPath(cell), () => showCell(cell));
  for (const link of document.querySelectorAll("a[data-cell]")) link.href = cellPath(data.cells[link.dataset.cell]);
  for (const link of document.querySelectorAll("a[data-case]")) link.href = casePath(data.cases[link.dataset.case]);

  const heading = (...parts) => make("h1", { tabindex: "-1" }, ...parts);
  const way = (...parts) => {
    const links = [make("a", { href: "#" }, "matrix"), ...parts];
    const all = links.flatMap((part, place) => (place ? [make("span", { "aria-hidden": "true" }, "›"), part] : [part]));
    return make("nav", { class: "way", "aria-label": "Where this is" }, ...all);
  };
  const facts = (pairs) => {
    const rows = pairs.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
    return make("dl", { class: "facts" }, ...rows);
  };
  const table = (headings, rows, name) => {
    const cells = (row) => row.cells.map((text, i) => make("td", { class: headings[i][1] }, text));
    const head = make("tr", {}, ...headings.map(([text, kind]) => make("th", { scope: "col", class: kind }, text)));
    const body = rows.map((row) => make("tr", { class: row.kind }, ...cells(row)));
    const whole = make("table", { class: name }, make("thead", {}, head), make("tbody", {}, ...body));
    return make("div", { class: "wide", tabindex: "0" }, whole);
  };
  const chip = (cell, text, current) =>
    make("li", {}, make("a", { class: "chip", href: cellPath(cell), "aria-current": current ? "page" : null },
      text, make("span", { class: kind(cell.verdict) }, `${data.marks[cell.verdict]} ${cell.share}`)));
  const devices = new Set(data.cells.map((cell) => cell.device));
  const where = (cell) => (devices.size > 1 ? `${cell.dtype} ${cell.device}` : cell.dtype);
  const kind = (verdict) => data.kinds[verdict];

  // Cells

  function showCell(cell) {
    const one = data.cases[cell.case];
    const name = `${one.name} · ${cell.implementation} · ${where(cell)}`;
    const same = data.cells.filter((other) => other.case === cell.case);
    const row = same.filter((other) => other.dtype === cell.dtype && other.device === cell.device);
    const others = same.filter((other) => other.implementation === cell.implementation && !row.includes(other));
    view.replaceChildren(
      way(make("a", { href: casePath(one) }, one.name), `${cell.implementation} ${cell.dtype}`),
      heading(name),
      statement(cell),
      make("ul", { class: "chips go", "aria-label": "Other cells of this case" },
        ...row.map((other) => chip(other, other.implementation, other === cell)),
        ...others.map((other) => chip(other, where(other), false))),
      lossFigure(cell, one, row),
      ...distances(cell),
      ...published(cell),
      make("h2", {}, "Versions and settings"),
      cell.settings.length ? facts(cell.settings) : make("p", { class: "faint" }, "No run was recorded, or it could not be read."),
      one.sources.length ? make("p", {}, make("a", { href: sourcesPath(one, sideBySide(one, cell.implementation)) },
        "Its source beside the reference's")) : "",
    );
    return name;
  }

  function statement(cell) {
    const held = cell.evidence[decisive(cell)];
    const run = held && held.lockstep !== null ? ` of the run that starts from the reference's state every ${held.lockstep} epochs` : "";
    const rests = {
      PASS: cell.parameter === null ? "" :
        `At most ${cell.share} of the tolerance was used, by ${cell.parameter} at epoch ${cell.epoch}${run}.`,
      FAIL: cell.reason,
      INCONCLUSIVE: cell.reason || "Nothing was compared.",
    }[cell.verdict];
    return make("div", { class: `statement ${cell.verdict.toLowerCase()}` },
      make("p", {}, make("span", { class: `badge ${kind(cell.verdict)}`, id: "verdict" },
        `${data.marks[cell.verdict]} ${cell.verdict}`), make("span", { id: "reason" }, rests)),
      cell.explanation && make("p", {}, make("strong", { id: "explanation" }, cell.explanation)),
      cell.note && make("p", {}, cell.note + "."),
      ...cell.missed.map((text) => make("p", { class: "bad" }, "≠ " + text)),
      cell.against && make("p", { class: "faint" }, `Held against ${cell.against}.` +
        (cell.floor && ` Its tolerances follow from ${cell.floor}.`)));
  }

  function lossFigure(cell, one, row) {
    const runs = row.filter((other) => other !== cell && other.loss).map((other) => [other.implementation, other.loss]);
    if (one.reference && !row.some((other) => other.dtype === "float64" && other.against.startsWith("its own check")))
      runs.push(["reference", one.reference]);
    const all = (cell.loss ? [[cell.implementation, cell.loss], ...runs] : runs).map(([label, curve]) => {
      const line = data.series[curve.line];
      return { label, count: curve.count, x: line.x.map((place) => place / curve.batches), y: line.y.map(finite),
        text: line.x.map((place, i) => `epoch ${Math.floor(place / curve.batches) + 1}` +
          (curve.batches > 1 ? `, batch ${place % curve.batches}` : "") + `: ${line.y[i]}`) };
    });
    if (!all.length) return make("p", { class: "faint" }, "No run of this case could be read: there is no loss to draw.");
    const values = all.flatMap((line) => line.y.filter((y) => y !== null));
    const [least, most] = extremes(values);
    const own = Boolean(cell.loss);
    const traces = all.map((line, place) => ({
      type: "scatter", mode: line.x.length < 40 ? "lines+markers" : "lines", name: plain(line.label),
      x: line.x, y: line.y, text: line.text.map((text) => plain(`${line.label}, ${text}`)), hoverinfo: "text",
      line: own && !place ? { width: 9, color: "rgba(9,105,218,.38)" } : { width: 1.3, color: PALETTE[place % PALETTE.length] },
      marker: { size: own && !place ? 11 : 4 },
    }));
    const layout = { yaxis: { title: { text: "loss of each batch" }, type: "linear" } };
    if (least > 0 && most / least > 50) Object.assign(layout.yaxis, { type: "log", dtick: 1 });
    const caption = (own ? `The wide line is ${cell.implementation}; thin lines that run along its middle agree with it.` : "") +
      " Each batch's loss, before its update." +
      (all.some((line) => line.y.includes(null)) ? " Where a line breaks off, the loss is not finite." : "") + thinned(all);
    return figure("Loss", caption, traces, layout, "");
  }

  // The run that the verdict rests on: the free one, or the one in lockstep.
  const decisive = (cell) => cell.evidence.findIndex((evidence) =>
    evidence.quantities.some((q) => q.asserted && q.name === cell.parameter && q.share === cell.share));

  function distances(cell) {
    if (!cell.evidence.length)
      return [make("h2", {}, "Distance from the reference"), make("p", { class: "faint" }, "No distance was measured: see the reason above.")];
    const place = Math.max(0, decisive(cell));
    const holder = make("div");
    const kinds = cell.evidence.map((evidence, i) => make("option", { value: String(i), selected: i === place },
      evidence.lockstep === null ? "of the free run" : `in lockstep, from the reference's state every ${evidence.lockstep} epochs`));
    const names = make("select", { id: "quantity", change: draw });
    const which = make("select", { id: "kind", change: () => { fill(); draw(); } }, ...kinds);
    const evidence = () => cell.evidence[Number(which.value)];

    function fill() {
      const options = evidence().quantities.map((q) => make("option", { value: q.name, selected: q.name === cell.parameter },
        q.name + (q.share === null ? "" : `: ${q.share} of its tolerance`)));
      names.replaceChildren(...options);
    }
    function draw() {
      const q = evidence().quantities.find((one) => one.name === names.value);
      holder.replaceChildren(distanceFigure(cell, evidence(), q), quantities(evidence(), q));
    }
    fill();
    draw();
    return [
      make("h2", {}, "Distance from the reference"),
      make("div", { class: "pickers" },
        make("label", {}, "Quantity ", names),
        cell.evidence.length > 1 ? make("label", {}, "Run ", which) : ""),
      holder,
    ];
  }

  function distanceFigure(cell, evidence, q) {
    const batches = q.name === "loss" ? evidence.batches : 1;
    const line = data.series[q.line], floor = data.series[q.floor];
    const at = (x) => x.map((place) => place / batches);
    const when = (place) => q.name !== "loss" ? `epoch ${place}` :
      `epoch ${Math.floor(place / batches) + 1}` + (batches > 1 ? `, batch ${place % batches}` : "");
    const distance = line.y.map(finite), allowed = floor.y.map(finite);
    // A floor of zero is stored as the next number up; no axis need reach down there.
    const positive = [...distance.filter((y) => y > 0), ...allowed.filter((y) => y > 1e-37)];
    const [least, most] = positive.length ? extremes(positive) : [1e-16, 1];
    const low = least / 5, high = Math.max(most, data.factor * Math.max(...allowed.filter((y) => y !== null), 0)) * 5;
    const lifted = (values) => values.map((y) => (y === null ? y : Math.max(y, low)));
    const few = line.x.length < 60;
    const own = "#3584e4";
    const zero = line.x.filter((_, i) => line.y[i] === 0);
    const lost = line.x.filter((_, i) => distance[i] === null);
    const traces = [
      { x: at(floor.x), y: floor.x.map(() => low), mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false },
      { x: at(floor.x), y: lifted(allowed), mode: "lines", name: "noise floor", fill: "tonexty",
        fillcolor: "rgba(128,140,155,.28)", line: { width: 1, color: "rgb(128,140,155)" }, hoverinfo: "text",
        text: floor.x.map((place, i) => `noise floor, ${when(place)}: ${floor.y[i]}`) },
      { x: at(floor.x), y: lifted(allowed).map((y) => y && y * data.factor), mode: "lines", hoverinfo: "text",
        name: `tolerance: ${data.factor} × the floor`, line: { width: 2, dash: "dash", color: "#d9480f" },
        text: floor.x.map((place, i) => `tolerance, ${when(place)}: ${times(floor.y[i])}`) },
      { x: at(line.x), y: distance.map((y) => y || null), mode: few ? "lines+markers" : "lines", name: "distance",
        line: { width: 2, color: own }, marker: { size: 6, color: own }, hoverinfo: "text", connectgaps: false,
        text: line.x.map((place, i) => `${when(place)}: ${line.y[i]} away`) },
    ];
    if (zero.length)
      traces.push({ x: at(zero), y: zero.map(() => low), mode: "markers", name: "exactly equal", hoverinfo: "text",
        marker: { symbol: "triangle-down-open", size: 8, color: own }, cliponaxis: false,
        text: zero.map((place) => `${when(place)}: exactly equal`) });
    if (lost.length)
      traces.push({ x: at(lost), y: lost.map(() => high / 1.5), mode: "markers", name: "not finite", hoverinfo: "text",
        marker: { symbol: "x", size: 11, color: "#e03131" }, cliponaxis: false,
        text: lost.map((place) => `${when(place)}: not finite`) });
    const layout = { yaxis: { title: { text: "largest |difference|" }, type: "log", exponentformat: "power", dtick: ticks(low, high),
      range: [Math.log10(low), Math.log10(high)] } };
    const last = floor.x.length ? floor.x[floor.x.length - 1] : 0;
    const caption = `The largest difference of ${q.name} from ${cell.against || "the reference"}, on a log scale. ` +
      (q.equal ? `Exactly equal at ${q.equal} of ${q.count} places. ` : "") +
      (q.asserted ? "" : "This is not asserted of the free run: its parameters are compared in lockstep. ") +
      (last < line.x[line.x.length - 1] ? `The noise floor ends at ${when(last)}. ` : "") +
      thinned([{ count: q.count, x: line.x }]);
    return figure(null, caption, traces.map((trace) => ({ type: "scatter", ...trace })), layout, "tall");
  }

  function quantities(evidence, shown) {
    const headings = [["quantity", ""], ["most of its tolerance used", "number"], ["at epoch", "number"],
      ["distance there", "number"], ["tolerance there", "number"], ["exactly equal", "number"]];
    const rows = evidence.quantities.map((q) => ({
      kind: q === shown ? "worst" : q.asserted ? null : "aside",
      cells: [q.name + (q.asserted ? "" : " (not asserted)"), number(q.share), number(q.epoch), number(q.distance),
        number(q.allowed), `${q.equal} of ${q.count}`],
    }));
    return table(headings, rows, "quantities");
  }

  function published(cell) {
    if (!cell.lines.length) return [];
    const rows = cell.lines.map(([ours, theirs, mark, verdict]) => ({ kind: verdict === "PASS" ? null : kind(verdict), cells: [ours, theirs, mark] }));
    return [
      make("h2", {}, "Beside the published figures"),
      make("p", { class: "faint" }, cell.published.join("; ")),
      table([["ours", ""], ["published", ""], ["", ""]], rows, "log"),
    ];
  }

  // Cases

  function showCase(one, query) {
    const cells = data.cells.filter((cell) => data.cases[cell.case] === one);
    const rows = [...new Set(cells.map(where))];
    const asked = query ? query.split(",").map(decode) : sideBySide(one, null);
    view.replaceChildren(...[
      way(one.name),
      heading(one.name),
      one.facts.length ? facts(one.facts) : make("p", { class: "odd" },
        "The suite that this page was made with does not know this case: its description, published figures and sources " +
        "are missing. Name the suite that has it: parity report DIR --suite PACKAGE"),
      ...rows.map((row) => make("ul", { class: "chips", "aria-label": row },
        make("li", { class: "faint" }, row),
        ...cells.filter((cell) => where(cell) === row).map((cell) => chip(cell, cell.implementation, false)))),
      one.sources.length ? sources(one, asked) : "",
      one.doc.length ? make("section", { class: "doc" }, make("h2", {}, "What the model's file says of it"),
        ...one.doc.map(([tag, text]) => (tag === "pre" ? make("pre", {}, text) : make("p", {}, ...literals(text))))) : "",
    ].filter((part) => part !== ""));
    return one.name;
  }

  // The reference, and beside it the implementation asked for or the first other one.
  function sideBySide(one, label) {
    const labels = one.sources.map(([name]) => name);
    const other = labels.includes(label) && label !== labels[0] ? label : labels[1];
    return [labels[0], other].filter((name) => name !== undefined);
  }

  function sources(one, asked) {
    const columns = make("div", { class: "columns", tabindex: "0", role: "region", "aria-label": "Sources side by side" });
    const boxes = one.sources.map(([label]) =>
      make("input", { type: "checkbox", value: label, checked: asked.includes(label), change: choose }));

    function fill() {
      const chosen = one.sources.filter((_, i) => boxes[i].checked);
      columns.replaceChildren(...chosen.map(([label, file, number]) => {
        const code = make("code");
        code.append(document.getElementById(`source-${number}`).content.cloneNode(true));
        return make("section", {}, make("h4", {}, label, " ", make("span", {}, file)), make("pre", { tabindex: "0" }, code));
      }));
      if (!chosen.length) columns.append(make("p", { class: "faint" }, "Choose one or more above."));
    }
    function choose() {
      fill();
      history.replaceState(null, "", sourcesPath(one, boxes.filter((box) => box.checked).map((box) => box.value)));
    }
    fill();
    return make("section", {},
      make("h2", {}, "One model, side by side"),
      make("fieldset", {}, make("legend", {}, "Show the sources of"),
        make("div", { class: "chips" }, ...boxes.map((box) => make("label", { class: "chip" }, box, box.value)))),
      columns);
  }

  // Docstrings write ``code`` in double backquotes.
  const literals = (text) => text.split("``").map((part, i) => (i % 2 ? make("code", {}, part) : part));

  // Drawing

  const finite = (value) => (typeof value === "number" ? value : null);
  const number = (value) => (value === null ? "" : String(value));
  const times = (value) => (typeof value === "number" ? Number((value * data.factor).toPrecision(3)) : value);
  const ticks = (low, high) => Math.max(1, Math.ceil(Math.log10(high / low) / 7));
  const decode = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
  const thinned = (lines) => (lines.some((line) => line.x.length < line.count) ?
    ` Drawn thinned, ${Math.max(...lines.map((line) => line.x.length))} of ${Math.max(...lines.map((line) => line.count))} values: ` +
    "the extremes of every stretch are kept." : "");

  function extremes(values) {
    let least = Infinity, most = -Infinity;
    for (const value of values) { least = Math.min(least, value); most = Math.max(most, value); }
    return [least, most];
  }

  function figure(name, caption, traces, layout, size) {
    const plot = make("div", { class: `plot ${size}`, role: "img", "aria-label": caption });
    // Drawn once it has a place and so a width.
    requestAnimationFrame(() => {
      if (!plot.isConnected) return;
      const narrow = plot.clientWidth < 600;
      const own = {
        autosize: true, margin: { l: 70, r: 8, t: 8, b: 44 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
        font: { family: "system-ui, sans-serif", size: 13 }, hovermode: "closest",
        dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
        legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: narrow ? 11 : 12 }, traceorder: "normal" },
        xaxis: { title: { text: "epoch" }, zeroline: false, rangemode: "tozero" }, ...layout,
      };
      Object.assign(own.yaxis, { zeroline: false, automargin: true });
      Plotly.newPlot(plot, traces, own, { responsive: true, displaylogo: false, displayModeBar: false });
    });
    return make("figure", {}, name ? make("h2", {}, name) : "", plot, make("figcaption", {}, caption));
  }

  function route() {
    const [address, query] = location.hash.split("?", 2);
    const show = routes.get(path(...address.slice(1).split("/").map(decode)));
    if (!matrix.hidden) scrolled = scrollY;
    for (const plot of view.querySelectorAll(".plot")) Plotly.purge(plot);
    matrix.hidden = Boolean(show);
    view.hidden = !show;
    if (!show) {
      view.replaceChildren();
      document.title = title;
      scrollTo(0, scrolled);
      return;
    }
    document.title = `${show(query)} – ${title}`;
    scrollTo(0, 0);
    view.querySelector("h1").focus({ preventScroll: true });
  }
  addEventListener("hashchange", route);
  route();
})();
