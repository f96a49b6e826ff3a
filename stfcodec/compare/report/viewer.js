"use strict";
/* The viewer of the report: which pictures it shows, how, and where. Its state stands in the
   address after #, so that a view can be passed on as a link. */
(() => {
  const $ = (id) => document.getElementById(id);
  const pictures = JSON.parse($("state").textContent);
  const stage = $("stage"), handle = $("handle");
  const SOURCE = "source";
  const ZOOMS = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32];
  const VIEWS = { s: "slider", a: "all", d: "difference", b: "bits" };
  const PAN = 60; // screen pixels that an arrow key moves

  /* zoom: pixels of the screen for one of the picture, 0 to fit. x, y: the point of the picture in
     the middle of a pane, and divider: the border's place, from 0 to 1. */
  const state = {
    picture: 0, point: 0, left: SOURCE, right: "", view: "slider",
    gain: 4, zoom: 0, x: 0.5, y: 0.5, divider: 0.5,
  };
  let panes = [];
  let peek = false; // the space bar is held

  const picture = () => pictures[state.picture];
  const point = () => picture().points[state.point];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /* ---- what can be shown: the source, and every result at the chosen quality ---- */

  function shown(codec) {
    const number = point().results.findIndex((result) => result.codec === codec);
    if (number < 0) {
      return { codec: SOURCE, id: `image-${state.picture}`, caption: picture().caption };
    }
    const place = `${state.picture}-${state.point}-${number}`;
    const { caption } = point().results[number];
    return { codec, id: `image-${place}`, map: $(`map-${place}`), caption };
  }

  function mapped() {
    const chosen = shown(state.right);
    return chosen.map ? chosen : shown(point().results[0].codec);
  }

  function element(shownOne, className) {
    const image = new Image();
    const original = $(shownOne.id);
    image.src = original.src;
    image.alt = original.alt;
    image.width = picture().width;
    image.height = picture().height;
    image.className = className || "";
    image.draggable = false;
    return image;
  }

  function mapElement(shownOne) {
    const image = new Image();
    image.onload = () => { // one pixel of the map is one position
      const size = Number(stage.dataset.position);
      image.width = size * image.naturalWidth;
      image.height = size * image.naturalHeight;
    };
    image.src = shownOne.map.src;
    image.alt = shownOne.map.alt;
    image.className = "map";
    return image;
  }

  function pane(layers, names) {
    const element = document.createElement("div"), canvas = document.createElement("div");
    element.className = "pane";
    canvas.className = "canvas";
    canvas.style.width = `${picture().width}px`;
    canvas.style.height = `${picture().height}px`;
    canvas.append(...layers);
    element.append(canvas);
    for (const [text, className] of names) {
      const name = document.createElement("div");
      name.className = `name ${className}`;
      name.textContent = text;
      element.append(name);
    }
    return { element, canvas };
  }

  /* ---- drawing ---- */

  function build() {
    const left = shown(state.left), right = shown(state.right);
    const both = [[left.codec, ""], [right.codec, "end"]];
    let captions = [`Left: ${left.caption}`, `Right: ${right.caption}`];
    if (state.view === "all") {
      const every = [SOURCE, ...point().results.map((result) => result.codec)].map(shown);
      panes = every.map((one) => pane([element(one)], [[one.codec, ""]]));
      captions = every.map((one) => one.caption);
    } else if (state.view === "difference") {
      panes = [pane([element(left), element(right, "difference")], [[`${left.codec} − ${right.codec}`, ""]])];
      panes[0].canvas.style.filter = `brightness(${state.gain})`;
    } else if (state.view === "bits") {
      const one = mapped();
      panes = [pane([element(one), mapElement(one)], [[one.codec, ""]])];
      captions = [one.caption];
      $("top").textContent = one.map.dataset.top;
    } else {
      panes = [pane([element(left), element(right, "over")], both)];
    }
    stage.replaceChildren(...panes.map((one) => one.element));
    $("captions").replaceChildren(...captions.map((text) => {
      const line = document.createElement("span");
      line.textContent = text;
      return line;
    }));
    handle.hidden = state.view !== "slider";
    $("scale").hidden = state.view !== "bits";
    $("gain-label").hidden = state.view !== "difference";
    for (const section of document.querySelectorAll("section.picture")) {
      section.classList.toggle("other", Number(section.dataset.picture) !== state.picture);
    }
    for (const marked of document.querySelectorAll(".point, .curve circle")) {
      marked.classList.toggle("now", Number(marked.dataset.point) === state.point);
    }
    updateControls();
    place();
  }

  function columns() {
    const { width, height } = stage.getBoundingClientRect();
    let best = 1, largest = 0;
    for (let count = 1; count <= panes.length; count += 1) {
      const rows = Math.ceil(panes.length / count);
      const fits = Math.min(width / count / picture().width, height / rows / picture().height);
      if (fits > largest) [best, largest] = [count, fits];
    }
    return best;
  }

  /* The zoom at which a whole picture fills a pane. A small one is enlarged by whole numbers, which
     leaves its pixels sharp. */
  function fit() {
    const box = panes[0].element.getBoundingClientRect();
    const zoom = Math.min(box.width / picture().width, box.height / picture().height) * devicePixelRatio;
    return zoom > 1 ? Math.floor(zoom) : zoom;
  }

  function geometry() {
    const { width, height } = picture(), box = panes[0].element.getBoundingClientRect();
    return { width, height, box, scale: (state.zoom || fit()) / devicePixelRatio };
  }

  /* Put the point (x, y) of the picture in the middle, but leave no empty edge. */
  function place() {
    // One picture needs no more height than it fills.
    const shape = picture().height / picture().width;
    stage.style.maxHeight = panes.length > 1 ? "" : `${stage.clientWidth * shape}px`;
    const count = columns();
    stage.style.gridTemplateColumns = `repeat(${count}, 1fr)`;
    stage.style.gridAutoRows = "1fr";
    const { width, height, box, scale } = geometry();
    const middle = (at, length, room) => {
      const half = room / 2 / (length * scale);
      return half >= 0.5 ? 0.5 : clamp(at, half, 1 - half);
    };
    state.x = middle(state.x, width, box.width);
    state.y = middle(state.y, height, box.height);
    const whole = (value) => Math.round(value * devicePixelRatio) / devicePixelRatio;
    const left = whole(box.width / 2 - state.x * width * scale);
    const top = whole(box.height / 2 - state.y * height * scale);
    for (const { canvas } of panes) {
      canvas.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
      canvas.classList.toggle("pixels", scale * devicePixelRatio > 0.999);
    }
    const over = stage.querySelector(".over");
    if (over) {
      const border = peek ? width : (state.divider * box.width - left) / scale;
      over.style.clipPath = `inset(0 0 0 ${clamp(border, 0, width)}px)`;
    }
    handle.style.left = `${100 * state.divider}%`;
    const percent = Math.round(100 * state.divider);
    handle.setAttribute("aria-valuenow", String(percent));
    handle.setAttribute("aria-valuetext", `${shown(state.left).codec} on the left ${percent} percent`);
    stage.classList.toggle("moves", canPan());
    $("zoom").textContent = `${Math.round(100 * scale * devicePixelRatio)} %`;
    remember();
  }

  function canPan() {
    const { width, height, box, scale } = geometry();
    return width * scale > box.width + 1 || height * scale > box.height + 1;
  }

  /* ---- changes ---- */

  function set(changes) {
    Object.assign(state, changes);
    build();
  }

  function pan(right, down) {
    const { width, height, scale } = geometry();
    state.x += right / (width * scale);
    state.y += down / (height * scale);
    place();
  }

  /* Zoom around a place of the window, or around the middle. */
  function zoomTo(zoom, clientX, clientY) {
    const { width, height, box, scale } = geometry();
    const pane = clientX === undefined ? box : paneAt(clientX, clientY).getBoundingClientRect();
    const dx = clientX === undefined ? 0 : clientX - pane.left - pane.width / 2;
    const dy = clientX === undefined ? 0 : clientY - pane.top - pane.height / 2;
    const x = state.x + dx / (width * scale), y = state.y + dy / (height * scale);
    state.zoom = zoom && clamp(zoom, Math.min(ZOOMS[0], fit()), ZOOMS[ZOOMS.length - 1]);
    const after = geometry().scale;
    state.x = x - dx / (width * after);
    state.y = y - dy / (height * after);
    place();
  }

  function paneAt(clientX, clientY) {
    const inside = panes.find(({ element }) => {
      const box = element.getBoundingClientRect();
      return clientX >= box.left && clientX < box.right && clientY >= box.top && clientY < box.bottom;
    });
    return (inside || panes[0]).element;
  }

  function zoomStep(up, clientX, clientY) {
    const now = geometry().scale * devicePixelRatio;
    const next = up ? ZOOMS.find((z) => z > now * 1.01) : ZOOMS.filter((z) => z < now * 0.99).pop();
    if (next) zoomTo(next, clientX, clientY);
  }

  function moveDivider(share) {
    state.divider = clamp(share, 0, 1);
    place();
  }

  function dividerAt(clientX) {
    const box = stage.getBoundingClientRect();
    moveDivider((clientX - box.left) / box.width);
  }

  /* ---- controls ---- */

  function options(select, chosen) {
    const names = [SOURCE, ...point().results.map((result) => result.codec)];
    select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  }

  function updateControls() {
    if ($("picture")) $("picture").value = String(state.picture);
    options($("left"), shown(state.left).codec);
    options($("right"), shown(state.right).codec);
    const pair = state.view === "slider" || state.view === "difference";
    for (const id of ["left", "swap"]) $(id).disabled = !pair;
    $("right").disabled = state.view === "all";
    $("gain").value = String(state.gain);
    document.querySelector(`[name="point"][value="${state.point}"]`).checked = true;
    document.querySelector(`[name="view"][value="${state.view}"]`).checked = true;
  }

  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("change", (event) => {
    const { id, name, value } = event.target;
    if (id === "picture") set({ picture: Number(value), zoom: 0, x: 0.5, y: 0.5 });
    else if (id === "gain" || name === "point") set({ [id || name]: Number(value) });
    else set({ [id || name]: value });
  });
  $("swap").addEventListener("click", () => set({ left: state.right, right: state.left }));
  $("in").addEventListener("click", () => zoomStep(true));
  $("out").addEventListener("click", () => zoomStep(false));
  $("fit").addEventListener("click", () => zoomTo(0));
  $("pixel").addEventListener("click", () => zoomTo(1));
  for (const button of document.querySelectorAll("button.show")) {
    button.disabled = false;
    button.title = `Show ${button.dataset.codec} above`;
    button.addEventListener("click", () => {
      const { codec } = button.dataset;
      const left = state.left === codec ? SOURCE : state.left;
      set({ left, right: codec, point: Number(button.dataset.point) });
      $("viewer").scrollIntoView({ block: "start" });
    });
  }

  /* ---- keys ---- */

  /* Anywhere in the viewer, except for keys that the focused control has a use for. */
  $("viewer").addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || target === handle) return;
    if (target.matches("select") || (target !== stage && /^( |Arrow.*|Enter)$/.test(key))) return;
    const last = picture().points.length - 1;
    if (key === "ArrowLeft") pan(-PAN, 0);
    else if (key === "ArrowRight") pan(PAN, 0);
    else if (key === "ArrowUp") pan(0, -PAN);
    else if (key === "ArrowDown") pan(0, PAN);
    else if (key === "+" || key === "=") zoomStep(true);
    else if (key === "-") zoomStep(false);
    else if (key === "0") zoomTo(0);
    else if (key === "1") zoomTo(1);
    else if (key === "x") set({ left: state.right, right: state.left });
    else if (key === "[") set({ point: Math.max(state.point - 1, 0) });
    else if (key === "]") set({ point: Math.min(state.point + 1, last) });
    else if (key === " ") { if (!peek) { peek = true; place(); } }
    else if (key in VIEWS) set({ view: VIEWS[key] });
    else return;
    event.preventDefault();
  });
  const endPeek = () => { if (peek) { peek = false; place(); } };
  stage.addEventListener("keyup", (event) => { if (event.key === " ") endPeek(); });
  stage.addEventListener("blur", endPeek);

  handle.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -0.01, ArrowDown: -0.01, ArrowRight: 0.01, ArrowUp: 0.01, PageDown: -0.1, PageUp: 0.1 };
    if (event.key in steps) moveDivider(state.divider + steps[event.key]);
    else if (event.key === "Home") moveDivider(0);
    else if (event.key === "End") moveDivider(1);
    else return;
    event.preventDefault();
  });

  /* ---- mouse and touch ---- */

  const pointers = new Map();
  const fingers = () => {
    const [a, b] = [...pointers.values()];
    return { distance: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  let spread = 0; // distance of two fingers

  handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) dividerAt(event.clientX);
  });

  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    spread = pointers.size === 2 ? fingers().distance : 0;
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    pointers.set(event.pointerId, now);
    if (pointers.size === 2) {
      const { distance, x, y } = fingers();
      const zoom = geometry().scale * devicePixelRatio;
      if (spread && distance) zoomTo((zoom * distance) / spread, x, y);
      spread = distance;
    } else if (canPan()) {
      pan(before.x - now.x, before.y - now.y);
    } else if (state.view === "slider") {
      dividerAt(now.x);
    }
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
    stage.addEventListener(kind, (event) => { pointers.delete(event.pointerId); spread = 0; });
  }
  stage.addEventListener("dblclick", (event) => zoomStep(!event.shiftKey, event.clientX, event.clientY));
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const zoom = geometry().scale * devicePixelRatio;
    zoomTo(zoom * Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
  }, { passive: false });
  new ResizeObserver(() => { if (panes.length) place(); }).observe(stage);

  /* ---- the address ---- */

  function remember() {
    const numbers = { x: state.x.toFixed(4), y: state.y.toFixed(4), divider: state.divider.toFixed(3) };
    const text = new URLSearchParams({ ...state, ...numbers }).toString();
    try {
      history.replaceState(null, "", `#${text}`);
    } catch { /* a browser that allows this only a hundred times a minute */ }
  }

  function recall() {
    const found = new URLSearchParams(location.hash.slice(1));
    for (const [name, value] of found) {
      if (!(name in state)) continue;
      if (typeof state[name] === "string") state[name] = value;
      else if (Number.isFinite(Number(value))) state[name] = Number(value);
    }
    state.picture = clamp(Math.round(state.picture), 0, pictures.length - 1);
    state.point = clamp(Math.round(state.point), 0, picture().points.length - 1);
    if (!Object.values(VIEWS).includes(state.view)) state.view = "slider";
    if (![1, 2, 4, 8, 16].includes(state.gain)) state.gain = 4;
    state.zoom = state.zoom && clamp(state.zoom, ZOOMS[0], ZOOMS[ZOOMS.length - 1]);
    state.divider = clamp(state.divider, 0, 1);
  }

  Object.assign(state, { point: Number(stage.dataset.start) });
  Object.assign(state, { right: point().results[0].codec });
  recall();
  window.addEventListener("hashchange", () => { recall(); build(); });
  document.body.classList.add("with-viewer");
  $("viewer").hidden = false;
  build();
})();
