"use strict";
// Draws the report's charts with uPlot. The data is in the element `data`. The tables do not depend on this script.
(() => {
  const boots = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const colour = name => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const make = (tag, properties = {}, children = []) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const FONT = '12px system-ui, "DejaVu Sans", sans-serif';
  const SERIES = 8;
  // The space on the right of a chart, in pixels.
  const PADDING = 28;

  const digits = (value, count) => String(Number(value.toPrecision(count)));
  const number = value => value == null ? "-" : value.toLocaleString("en", { maximumFractionDigits: 3 });
  // Formats a duration in microseconds.
  const time = us => {
    if (us >= 1e6) return digits(us / 1e6, 4) + " s";
    if (us >= 1e3) return digits(us / 1e3, 4) + " ms";
    if (us >= 1) return digits(us, 4) + " µs";
    return digits(us * 1e3, 4) + " ns";
  };

  const axis = more => ({
    stroke: colour("soft"), font: FONT, grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1 }, ...more,
  });
  // With more CPUs than distinguishable colours, lines also differ by dash pattern.
  const lines = (cpus, more) => cpus.map((cpu, n) => ({
    label: "CPU " + cpu, stroke: colour("s" + n % SERIES), width: 1.5, points: { show: false },
    dash: [[], [8, 4], [2, 3], [8, 3, 2, 3]][Math.floor(n / SERIES) % 4], value: (_, value) => number(value), ...more,
  }));

  // For each kind of chart: uPlot's options and data, or null if there is nothing to draw.
  const kinds = {
    rate: ({ rate }) => rate.x.length < 1 ? null : {
      options: {
        height: 280,
        scales: { x: { time: false }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.05)] } },
        axes: [axis({ label: "seconds since QEMU's start", labelFont: FONT, labelSize: 20 }),
          axis({ size: 76, values: (_, at) => at.map(number) })],
        series: [{ label: "second", value: (_, x) => x == null ? "-" : digits(x, 4) }, ...lines(rate.cpus)],
      },
      data: [rate.x, ...rate.y],
    },
    latency: ({ latency }, choice) => latency && latency.length > 0 ? steps(latency[choice], "time of a call", "calls") : null,
    jitter: ({ jitter }) => jitter ? steps(jitter, "deviation from the period", "ticks") : null,
    timeline: ({ timeline }, _, figure) => timeline ? timelineChart(timeline, figure) : null,
  };

  // Labels only every second power of ten, or fewer, if there is no room for all labels.
  const decades = (u, ats) => {
    const every = Math.ceil(Math.log10(u.scales.x.max / u.scales.x.min) * 75 / u.width);
    return ats.map(us => us == null || Math.round(Math.log10(us)) % every !== 0 ? "" : time(us));
  };

  // A histogram with a logarithmic x axis and a stepped line for each CPU. The axis of the counts is logarithmic from 1
  // up and linear below, so that an empty bucket is drawn at 0.
  const steps = ({ x, y, cpus }, across, up) => ({
    log: true,
    options: {
      height: 300,
      scales: { x: { time: false, distr: 3 }, y: { distr: 4, asinh: 1, range: (_, __, max) => [0, Math.max(10, max * 1.2)] } },
      axes: [axis({ label: across, labelFont: FONT, labelSize: 20, space: 70,
        values: decades }),
        axis({ size: 76, label: up, labelFont: FONT, labelSize: 20, splits: (u, _, __, max) => counts(max),
          values: (_, at) => at.map(number) })],
      series: [{ label: "from", value: (_, us) => us == null ? "-" : time(us) },
        ...lines(cpus, { paths: uPlot.paths.stepped({ align: 1 }) })],
    },
    data: [x, ...y],
  });

  // Labels of an axis of counts: 0 and the powers of ten.
  const counts = max => [0, ...Array.from({ length: Math.floor(Math.log10(max)) + 1 }, (_, n) => 10 ** n)];

  // The timeline: uPlot has no bars over time and no marks, so a hook draws them.
  const timelineChart = ({ origin, end, window, names, lanes }, figure) => {
    const lane = lanes.length <= 8 ? 46 : lanes.length <= 32 ? 26 : 14;
    const at = (us, places) => (origin / 1e6 + us / 1e3).toFixed(places) + " ms";
    // Uses enough decimals for neighbouring labels to differ.
    const axisTimes = (u, ats) => ats.map(us => {
      const label = at(us, Math.min(6, Math.max(0, Math.ceil(3 - Math.log10(ats[1] - ats[0] || 1)))));
      // A label at the right end has the space of the padding. A character is less than 8 pixels wide.
      const room = u.bbox.width / devicePixelRatio - u.valToPos(us, "x") + PADDING;
      return label.length * 4 > room ? "" : label;
    });
    const draw = u => {
      const { ctx, bbox } = u, ratio = devicePixelRatio;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      ctx.font = `${11 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      const { min, max } = u.scales.x;
      const x = us => u.valToPos(us, "x", true);
      const high = bbox.height / lanes.length;
      lanes.forEach(({ first, last, slices, marks }, n) => {
        const top = bbox.top + n * high, marksHigh = Math.min(12 * ratio, high * 0.3);
        const barTop = top + marksHigh + high * 0.04, barHigh = high * 0.9 - marksHigh;
        ctx.fillStyle = colour("ring3");
        ctx.fillRect(x(first / 1e3), barTop + barHigh * 0.4, x(last / 1e3) - x(first / 1e3), barHigh * 0.2);
        for (const [kind, begin, length] of slices) {
          if ((begin + length) / 1e3 < min || begin / 1e3 > max) continue;
          const left = x(begin / 1e3), width = Math.max(ratio, x((begin + length) / 1e3) - left);
          ctx.fillStyle = colours[kind];
          ctx.fillRect(left, barTop, width, barHigh);
          const label = names[kind].replace("SYS_", "").toLowerCase();
          const isIdle = kind === names.length - 1;
          if (isIdle && width > 3 * ratio) {
            ctx.strokeStyle = colour("ring3");
            ctx.strokeRect(left + ratio / 2, barTop + ratio / 2, width - ratio, barHigh - ratio);
          }
          // The label must fit the part of the bar that is visible.
          const from = Math.max(left, bbox.left), to = Math.min(left + width, bbox.left + bbox.width);
          if (barHigh > 12 * ratio && to - from > ctx.measureText(label).width + 6 * ratio) {
            ctx.fillStyle = isIdle ? ink : "#000";
            ctx.fillText(label, (from + to) / 2, barTop + barHigh / 2);
          }
        }
        ctx.fillStyle = ink;
        for (const [kind, ns] of marks) {
          if (ns / 1e3 < min || ns / 1e3 > max) continue;
          const left = x(ns / 1e3), half = marksHigh * 0.35;
          ctx.beginPath();
          if (kind === "tick") { ctx.moveTo(left - half, top); ctx.lineTo(left + half, top); ctx.lineTo(left, top + marksHigh); }
          else if (kind === "nmi") { ctx.moveTo(left, top); ctx.lineTo(left + half, top + marksHigh / 2);
            ctx.lineTo(left, top + marksHigh); ctx.lineTo(left - half, top + marksHigh / 2); }
          else if (kind.startsWith("ipi")) ctx.rect(left - half, top, half * 2, marksHigh);
          else ctx.rect(left - ratio, top, 2 * ratio, marksHigh);
          ctx.fill();
        }
      });
      ctx.restore();
    };
    const colours = names.map((_, n) => colour("call" + n)), ink = colour("ink");
    const output = figure.querySelector("output");
    const point = u => {
      const { left, top } = u.cursor;
      if (left == null || left < 0) { output.textContent = ""; return; }
      const us = u.posToVal(left, "x"), n = Math.floor(top / (u.bbox.height / devicePixelRatio) * lanes.length);
      const here = lanes[Math.min(lanes.length - 1, Math.max(0, n))], near = (u.scales.x.max - u.scales.x.min) * 3e3 / u.width;
      const slice = here.slices.find(([, begin, length]) => begin - near <= us * 1e3 && us * 1e3 <= begin + length + near);
      const mark = here.marks.find(([, ns]) => Math.abs(ns - us * 1e3) <= near);
      output.textContent = `CPU ${here.cpu}, ${at(us, 6)}` + (slice ? `: ${names[slice[0]]}, ${time(slice[2] / 1e3)}` +
        (slice[3] ? "" : ", cut") : "") + (mark ? `; ${mark[2]}` : "");
    };
    const keys = make("div", { className: "keys" }, names.map((name, n) => {
      const box = make("i");
      box.style.background = colours[n];
      return make("span", {}, [box, name]);
    }).filter((_, n) => lanes.some(({ slices }) => slices.some(([kind]) => kind === n))));
    const line = make("i", { className: "line" });
    line.style.background = colour("ring3");
    keys.append(make("span", {}, [line, "ring 3"]), make("span", { textContent: "▼ tick  ■ IPI  ◆ NMI  ❘ other" }));
    return {
      window: [window[0] / 1e3, window[1] / 1e3], keys,
      options: {
        height: lanes.length * lane + 56,
        cursor: { y: false, points: { show: false } },
        legend: { show: false },
        scales: { x: { time: false }, y: { range: [0, lanes.length] } },
        axes: [axis({ values: axisTimes, space: 110 }),
          axis({ size: 62, splits: () => lanes.map((_, n) => lanes.length - n - 0.5), grid: { show: false }, gap: 2,
            values: () => lanes.map(({ cpu }) => "CPU " + cpu), filter: (_, splits) => splits, space: 1 })],
        series: [{}, { show: true, paths: () => null, points: { show: false } }],
        hooks: { draw: [draw], setCursor: [point] },
      },
      data: [[0, end / 1e3], [null, null]],
    };
  };

  // Draws one chart, with its buttons and keys.
  const drawChart = figure => {
    const host = figure.querySelector(".plot"), bar = make("div", { className: "bar" });
    const numbers = boots[figure.closest("[data-boot]").dataset.boot], kind = figure.dataset.chart;
    let u = null, log = false, full = [0, 1], choice = 0, keys = null;

    const inner = value => log ? Math.log10(value) : value, outer = value => log ? 10 ** value : value;
    const show = (min, max) => u.setScale("x", { min: outer(min), max: outer(max) });
    const range = () => [inner(u.scales.x.min), inner(u.scales.x.max)];
    const zoom = factor => {
      const [min, max] = range(), middle = (min + max) / 2, half = (max - min) / 2 * factor;
      if (half > 1e-6) show(Math.max(full[0], middle - half), Math.min(full[1], middle + half));
    };
    const pan = share => {
      const [min, max] = range(), length = max - min;
      const from = Math.min(Math.max(full[0], min + share * length), full[1] - length);
      show(from, from + length);
    };
    const all = () => show(...full);
    const end = last => { const [min, max] = range(); pan((last ? full[1] - max : full[0] - min) / (max - min)); };

    const build = () => {
      const made = kinds[kind](numbers, choice, figure);
      if (!made) { host.replaceWith(make("p", { className: "note", textContent: "No data to draw." })); return false; }
      if (u) u.destroy();
      log = !!made.log;
      const { options, data } = made, x = data[0];
      const width = () => Math.max(240, host.clientWidth);
      const selected = u => {
        if (u.select.width > 4) u.setScale("x", { min: u.posToVal(u.select.left, "x"),
          max: u.posToVal(u.select.left + u.select.width, "x") });
      };
      u = new uPlot({
        ...options, width: width(), padding: [8, PADDING, 0, 0],
        cursor: { drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => all }, ...options.cursor },
        hooks: { ...options.hooks, setSelect: [selected, u => u.setSelect({ width: 0, height: 0 }, false)] },
      }, data, host);
      full = [inner(x[0]), inner(x[x.length - 1])];
      if (full[0] === full[1]) full[1] += log ? 0.1 : 1;
      show(...(made.window && made.window[0] < made.window[1] ? made.window : full));
      if (made.keys) { if (keys) keys.remove(); keys = made.keys; host.after(keys); }
      // A click on a series' name hides it; this makes Enter do the same.
      u.root.querySelectorAll(".u-legend tr:not(:first-child) th").forEach(th => {
        Object.assign(th, { tabIndex: 0, role: "button" });
        th.addEventListener("keydown", event => { if (event.key === "Enter") th.click(); });
      });
      new ResizeObserver(() => { if (host.clientWidth > 0 && u.width !== width()) u.setSize({ width: width(), height: options.height }); })
        .observe(host);
      return true;
    };

    if (!build()) return;
    const button = (label, name, act) => {
      const element = make("button", { type: "button", textContent: label, title: name, onclick: act });
      element.setAttribute("aria-label", name);
      bar.append(element);
    };
    if (kind === "latency") {
      const select = make("select", { onchange: () => { choice = select.selectedIndex; build(); } },
        numbers.latency.map(({ name }) => make("option", { textContent: name })));
      bar.append(make("label", {}, ["Call: ", select]));
    }
    button("+", "zoom in", () => zoom(0.5));
    button("−", "zoom out", () => zoom(2));
    button("◀", "move left", () => pan(-0.25));
    button("▶", "move right", () => pan(0.25));
    button("all", "show all", all);
    bar.append(make("span", { className: "note", textContent: "or drag over the chart; keys: + − ← → Home End 0" }));
    host.before(bar);
    const acts = { "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), ArrowLeft: () => pan(-0.25),
      ArrowRight: () => pan(0.25), Home: () => end(false), End: () => end(true), 0: all };
    host.addEventListener("keydown", event => {
      const act = event.ctrlKey || event.metaKey || event.altKey || event.target !== host ? null : acts[event.key];
      if (act) { act(); event.preventDefault(); }
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      const kept = range();
      build();
      show(...kept);
    });
    root.dataset.charts = Number(root.dataset.charts || 0) + 1;
  };

  // A closed element has no width, so its charts are drawn when it is opened.
  document.querySelectorAll("details.boot").forEach(boot => {
    let drawn = false;
    const draw = () => {
      if (!boot.open || drawn) return;
      drawn = true;
      boot.querySelectorAll("figure.chart").forEach(drawChart);
    };
    boot.addEventListener("toggle", draw);
    draw();
  });
})();
