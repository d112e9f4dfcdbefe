"use strict";

// Times are in the viewer's zone; UTC is shown on hover.
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  time.title = time.textContent;
  time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
document.querySelector("footer p")?.append(` Times are in your time zone, ${zone}.`);

// Charts: the drawing of a chart is replaced by Plotly's, for hover and zoom. Without Plotly the drawing stays.
(() => {
  const TOUCH = matchMedia("(pointer: coarse)").matches;
  const SYMBOLS = { p50: "circle", p95: "diamond", retries: "square", "cut-short": "triangle-down" };
  const DASHES = { p95: "5px,4px", retries: "5px,4px" };
  const SHAPES = { pending: ".", stuck: "/", failed: "x", not_found: "\\", invalid: "|", unknown: "-" };

  // Plotly takes times without a zone as they are: the viewer's wall clock.
  const local = (text) => {
    const at = new Date(text);
    return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  };

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return (role) => style.getPropertyValue("--" + role.replace("_", "-")).trim();
  };

  const painted = (trace, colour) => {
    const found = { ...trace, x: trace.x.map(local) };
    const own = colour(trace.role);
    delete found.role;
    if (trace.type === "bar") {
      const shape = SHAPES[trace.role] || "";
      found.marker = { color: own, line: { width: 0 }, pattern: { shape, size: 6, fgcolor: colour("surface"), fgopacity: 0.55, fillmode: "overlay" } };
    } else {
      found.marker = { color: own, symbol: SYMBOLS[trace.role] || "circle", size: trace.mode === "markers" ? 9 : 4 };
      found.line = { color: own, width: trace.fill ? 0 : 2, dash: DASHES[trace.role] || "solid" };
      if (trace.fill) found.fillcolor = own;
    }
    return found;
  };

  const layoutOf = (figure, colour) => {
    const axis = { gridcolor: colour("grid"), linecolor: colour("grid"), zerolinecolor: colour("grid"), automargin: true };
    const { xaxis, yaxis, ...rest } = figure.layout;
    return {
      ...rest,
      autosize: true,
      bargap: 0,
      hovermode: "x unified",
      showlegend: false,
      dragmode: TOUCH ? false : "zoom", // a finger scrolls the page
      margin: { l: 8, r: 8, t: 8, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("quiet"), family: "system-ui, sans-serif", size: 12 },
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("rule"), font: { color: colour("text") } },
      xaxis: { ...axis, ...xaxis, range: xaxis.range.map(local) },
      yaxis: { ...axis, ...yaxis, fixedrange: true, nticks: 5 },
    };
  };

  const charts = [];
  for (const data of document.querySelectorAll(".chart > script[type='application/json']")) {
    const chart = data.parentElement;
    charts.push({
      figure: JSON.parse(data.textContent),
      box: chart.querySelector(".plotly-box"),
      drawing: chart.querySelector(".drawing"),
      whole: chart.querySelector(".whole"),
    });
  }
  const source = document.documentElement.dataset.plotly; // a report in one file has the script inside, or none
  if (charts.length === 0 || (!source && !window.Plotly)) return;

  const show = (chart) => {
    const colour = colours();
    chart.drawing.hidden = true;
    chart.box.hidden = false;
    const traces = chart.figure.data.map((trace) => painted(trace, colour));
    window.Plotly.react(chart.box, traces, layoutOf(chart.figure, colour), { responsive: true, displaylogo: false, displayModeBar: false });
    if (chart.shown) return;
    chart.shown = true;
    chart.box.on("plotly_relayout", (change) => {
      if ("xaxis.range[0]" in change) chart.whole.hidden = false;
      else if ("xaxis.autorange" in change || "xaxis.range" in change) chart.whole.hidden = true;
    });
    chart.whole.firstElementChild.addEventListener("click", () => {
      const { range } = layoutOf(chart.figure, colours()).xaxis;
      window.Plotly.relayout(chart.box, { "xaxis.range": range });
      chart.whole.parentElement.querySelector("summary").focus();
    });
  };

  // Plotly is loaded once, when the first chart is near the window.
  let loading = null;
  const plotly = () => {
    loading ??= new Promise((resolve, reject) => {
      if (window.Plotly) return resolve();
      const script = document.createElement("script");
      script.src = source;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });
    return loading;
  };

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      const chart = charts.find((each) => each.drawing === entry.target);
      plotly().then(() => show(chart), () => {});
    }
  }, { rootMargin: "300px" });
  for (const chart of charts) seen.observe(chart.drawing);

  const repaint = () => { for (const chart of charts) if (chart.shown) show(chart); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  // On paper the drawings are sharper and fit the width.
  const swap = (printing) => {
    for (const chart of charts) if (chart.shown) { chart.drawing.hidden = !printing; chart.box.hidden = printing; }
  };
  addEventListener("beforeprint", () => swap(true));
  addEventListener("afterprint", () => swap(false));
})();
