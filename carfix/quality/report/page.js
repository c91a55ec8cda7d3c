"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const root = document.documentElement;

  // Theme: the system's until the reader chooses.
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = false;
  const setTheme = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    drawPlots();
  };
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const candidateColor = (index) => color(`--c${index % 8}`);

  // Curves: one plot for the metric, one for the quantizers, one cursor for both.
  const plots = [];
  let metric = 0;
  let marked = null; // number of the frame that was clicked last

  const axis = (extra) => ({
    stroke: color("--ink"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1 },
    ...extra,
  });

  const mark = (plot) => {
    if (marked === null) return;
    const x = Math.round(plot.valToPos(data.times[marked], "x", true));
    plot.ctx.save();
    plot.ctx.strokeStyle = color("--accent");
    plot.ctx.beginPath();
    plot.ctx.moveTo(x, plot.bbox.top);
    plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
    plot.ctx.stroke();
    plot.ctx.restore();
  };

  // Intra frames as ticks along the bottom: where curves jump, it is mostly there.
  const markIntra = (plot) => {
    plot.ctx.save();
    plot.ctx.strokeStyle = color("--faint");
    data.kinds[0].forEach((kind, index) => {
      if (kind !== "I") return;
      const x = Math.round(plot.valToPos(data.times[index], "x", true));
      plot.ctx.beginPath();
      plot.ctx.moveTo(x, plot.bbox.top + plot.bbox.height);
      plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height - 8 * devicePixelRatio);
      plot.ctx.stroke();
    });
    plot.ctx.restore();
  };

  const makePlot = (host, height, series, digits, hooks) => {
    const options = {
      width: host.clientWidth,
      height,
      scales: { x: { time: false } },
      axes: [axis({ label: undefined, values: (_, ticks) => ticks.map((tick) => `${tick} s`) }), axis({ size: 60 })],
      cursor: { sync: { key: "carfix" }, points: { size: 7 } },
      legend: { live: true },
      series: [
        { label: "time", value: (_, value) => (value === null ? "-" : `${value.toFixed(2)} s`) },
        ...series.map(({ label, index }) => ({
          label,
          stroke: candidateColor(index),
          width: 1.5,
          spanGaps: true,
          value: (_, value) => (value === null || value === undefined ? "-" : value.toFixed(digits)),
        })),
      ],
      hooks: { draw: hooks },
    };
    const plot = new uPlot(options, [data.times, ...series.map(({ curve }) => curve)], host);
    plot.over.addEventListener("click", () => {
      if (plot.cursor.idx !== null && plot.cursor.idx !== undefined) showFrame(plot.cursor.idx);
    });
    plots.push({ plot, host, height });
  };

  const drawPlots = () => {
    while (plots.length) plots.pop().plot.destroy();
    const names = data.names;
    const shown = data.metrics[metric];
    const curves = shown.curves.map((curve, index) => ({ label: names[index], curve, index }));
    makePlot(element("curves"), 300, curves, shown.digits, [markIntra, mark]);
    // Filters and networks do not change a file's quantizers: one curve a file.
    const seen = new Set();
    const files = data.quantizers
      .map((curve, index) => ({ label: `mean quantizer of ${names[index]}`, curve, index, text: JSON.stringify(curve) }))
      .filter(({ curve, text }) => curve.some((value) => value !== null) && !seen.has(text) && seen.add(text));
    element("quantizers").hidden = files.length === 0;
    if (files.length) makePlot(element("quantizers"), 150, files, 1, [mark]);
  };

  addEventListener("resize", () => plots.forEach(({ plot, host, height }) => plot.setSize({ width: host.clientWidth, height })));

  data.metrics.forEach((each, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = each.title;
    button.addEventListener("click", () => {
      metric = index;
      pressTabs();
      drawPlots();
    });
    element("tabs").append(button);
  });
  const pressTabs = () =>
    [...element("tabs").children].forEach((button, index) => button.setAttribute("aria-pressed", index === metric));
  pressTabs();

  const number = (value, digits) => (value === null ? "-" : value.toFixed(digits));

  const describe = (place) => {
    const lines = data.names.map((name, candidate) => {
      const values = data.metrics.map((each) => `${each.title} ${number(each.curves[candidate][place], each.digits)}`);
      return `${name}: ${values.join(", ")}`;
    });
    const kind = data.kinds[0][place];
    const quantizer = data.quantizers[0][place];
    const facts = [`frame ${data.frames[place]}`, `${data.times[place].toFixed(3)} s`];
    if (kind) facts.push(`type ${kind}`);
    if (quantizer !== null) facts.push(`mean quantizer ${quantizer.toFixed(1)}`);
    return [facts.join(", "), ...lines].join("\n");
  };

  // A frame that was clicked: its numbers, and the nearest frame that the page has pictures of.
  const showFrame = (place) => {
    marked = place;
    plots.forEach(({ plot }) => plot.redraw(false));
    const distance = (moment) => Math.abs(moment.place - place);
    const nearest = data.moments.reduce((best, moment, index) => (distance(moment) < distance(data.moments[best]) ? index : best), 0);
    const away = distance(data.moments[nearest]);
    const hint = away ? `\nThe pictures below are of frame ${data.frames[data.moments[nearest].place]}, the nearest one kept.` : "";
    element("readout").textContent = describe(place) + hint;
    element("readout").dataset.frame = data.frames[place];
    showMoment(nearest);
  };

  // Pictures.
  let current = 0;
  const images = data.pictures.map(() => new Image());
  const stage = element("stage");
  const slider = element("slider");

  data.moments.forEach((moment, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${moment.label}: frame ${data.frames[moment.place]}`;
    button.addEventListener("click", () => {
      showMoment(index);
      marked = moment.place;
      element("readout").textContent = describe(moment.place);
      element("readout").dataset.frame = data.frames[moment.place];
      plots.forEach(({ plot }) => plot.redraw(false));
    });
    element("moments").append(button);
  });

  data.pictures.forEach((name, index) => {
    element("left").add(new Option(name, index));
    element("right").add(new Option(name, index));
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 320;
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    figure.append(canvas, caption);
    element("lenses").append(figure);
  });
  [element("left").value, element("right").value] = data.sides;

  const showMoment = (index) => {
    current = index;
    [...element("moments").children].forEach((button, at) => button.setAttribute("aria-pressed", at === index));
    images.forEach((image, at) => {
      image.src = data.moments[index].pictures[at];
    });
    showSides();
  };

  const showSides = () => {
    const pictures = data.moments[current].pictures;
    const left = Number(element("left").value);
    const right = Number(element("right").value);
    element("before").src = pictures[left];
    element("before").alt = data.pictures[left];
    element("after").src = pictures[right];
    element("after").alt = data.pictures[right];
    Promise.all(images.map((image) => image.decode())).then(() => {
      const [width, height] = [images[0].naturalWidth, images[0].naturalHeight];
      // Fitted, the whole picture and the lenses above it are in view at once.
      stage.style.width = element("full").checked ? `${width}px` : `min(100%, calc(62vh * ${width / height}))`;
      stage.style.aspectRatio = `${width} / ${height}`;
      showDifference();
      moveLens();
    }, () => {}); // another frame was chosen meanwhile: its own call draws it
  };

  const moveBar = () => {
    const share = slider.value / slider.max;
    element("before").style.clipPath = `inset(0 ${100 * (1 - share)}% 0 0)`;
    element("bar").style.left = `${100 * share}%`;
    element("bar").hidden = element("difference").checked;
  };

  const showDifference = () => {
    const on = element("difference").checked;
    const canvas = element("diff");
    canvas.hidden = !on;
    moveBar();
    if (!on) return;
    const [width, height] = [images[0].naturalWidth, images[0].naturalHeight];
    const pixels = [element("left"), element("right")].map((select) => {
      const offscreen = new OffscreenCanvas(width, height);
      const context = offscreen.getContext("2d", { willReadFrequently: true });
      context.drawImage(images[Number(select.value)], 0, 0, width, height);
      return context.getImageData(0, 0, width, height);
    });
    const gain = Math.max(1, Number(element("gain").value) || 1);
    const [one, two] = pixels.map((picture) => picture.data);
    // Gray is no difference; the sign stays visible.
    for (let i = 0; i < one.length; i += 4) {
      for (let channel = i; channel < i + 3; channel += 1) one[channel] = 128 + gain * (two[channel] - one[channel]);
    }
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(pixels[0], 0, 0);
  };

  // The lens: the same spot of every picture, beside each other.
  let spot = { x: 0.5, y: 0.5 };
  const moveLens = () => {
    const zoom = Number(element("zoom").value);
    [...element("lenses").querySelectorAll("canvas")].forEach((canvas, index) => {
      const image = images[index];
      if (!image.naturalWidth) return;
      const scale = images[0].naturalWidth / image.naturalWidth;
      const side = canvas.width / zoom / scale;
      const x = Math.min(Math.max(spot.x * image.naturalWidth - side / 2, 0), Math.max(image.naturalWidth - side, 0));
      const y = Math.min(Math.max(spot.y * image.naturalHeight - side / 2, 0), Math.max(image.naturalHeight - side, 0));
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image, x, y, side, side, 0, 0, canvas.width, canvas.height);
    });
  };

  let dragging = false;
  const pointTo = (event) => {
    const box = stage.getBoundingClientRect();
    spot = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    if (dragging) {
      slider.value = Math.min(Math.max(spot.x, 0), 1) * slider.max;
      moveBar();
    }
    moveLens();
  };
  stage.addEventListener("pointerdown", (event) => {
    dragging = true;
    stage.setPointerCapture(event.pointerId);
    pointTo(event);
  });
  stage.addEventListener("pointermove", pointTo);
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { dragging = false; });

  slider.addEventListener("input", moveBar);
  for (const id of ["left", "right", "full"]) element(id).addEventListener("change", showSides);
  for (const id of ["difference", "gain"]) element(id).addEventListener("change", showDifference);
  element("zoom").addEventListener("change", moveLens);
  element("theme").addEventListener("click", () => {
    chosen = true;
    setTheme(root.dataset.theme !== "dark");
  });
  prefersDark.addEventListener("change", (event) => {
    if (!chosen) setTheme(event.matches);
  });

  setTheme(prefersDark.matches);
  if (data.moments.length) showMoment(0);
  moveBar();
})();
