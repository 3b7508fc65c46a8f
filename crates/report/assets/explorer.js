// The explorer: linked maps on canvases. Its data are those that crates/report/src/page/explorer.rs writes, in the same order.
"use strict";
addEventListener("DOMContentLoaded", async () => {
  const root = document.querySelector(".explorer");
  if (!("DecompressionStream" in window)) {
    root.replaceWith("To look at single images, this page needs a newer browser.");
    return;
  }
  const part = name => root.querySelector(`[data-${name}]`);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // ---- data ----
  const bytes = element => Uint8Array.from(atob(element.textContent.trim()), char => char.charCodeAt(0));
  const packed = new Blob([bytes(document.querySelector("[data-explorer]"))]);
  const inflated = packed.stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const data = await new Response(inflated).arrayBuffer();
  const length = new DataView(data).getUint32(0, true);
  const names = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let at = 4 + length;
  const plain = count => {
    // All lower bytes, then all upper ones.
    const [low, high] = [0, count].map(from => new Uint8Array(data, at + from, count));
    at += 2 * count;
    return Uint16Array.from(low, (value, index) => value + 256 * high[index]);
  };
  const places = count => {
    const low = plain(count);
    if (!names.wide) return low;
    const high = plain(count);
    return Uint32Array.from(low, (value, index) => value + 65536 * high[index]);
  };
  for (const set of names.sets) {
    const count = set.images;
    set.places = places(count);
    set.labels = plain(names.images.length);
    for (const run of set.runs) {
      run.maps = {};
      if (run.tsne) run.maps.tsne = [plain(count), plain(count)];
      if (run.pca) run.maps.pca = run.maps.solid = [plain(count), plain(count), plain(count)];
      if (run.said) [run.says, run.sure] = [plain(count), plain(count)];
      if (run.neighbors) run.near = places(count * run.neighbors);
      run.pairs = run.pairs.map(pairs => {
        const [a, b, angle] = [plain(pairs), plain(pairs), plain(pairs)];
        return Array.from(a, (image, pair) => ({ images: [image, b[pair]], degrees: angle[pair] / 100 }));
      });
      const shown = run.centers.flat().reduce((sum, [, shown]) => sum + shown, 0);
      const at = shown ? places(shown) : [];
      let from = 0;
      run.centers = run.centers.map(weights => weights.map(([count, shown]) => ({ count, images: at.slice(from, from += shown) })));
      run.votes = votes(set, run);
    }
  }

  // The class of most of the nearest images; ties go to the class of the nearest among the tied.
  function votes(set, run) {
    if (!run.near) return undefined;
    const k = Math.min(names.votes, run.neighbors);
    return Uint16Array.from({ length: set.images }, (_, image) => {
      const counts = new Map();
      for (let n = 0; n < k; n++) {
        const label = set.labels[run.near[image * run.neighbors + n]];
        counts.set(label, (counts.get(label) ?? 0) + 1);
      }
      // A map keeps the order in which classes came, the nearest first.
      let best;
      for (const [label, count] of counts) if (best === undefined || count > counts.get(best)) best = label;
      return best;
    });
  }

  const sheets = await Promise.all([...document.querySelectorAll("[data-sheet]")].map(element =>
    createImageBitmap(new Blob([bytes(element)], { type: "image/jpeg" }))));

  // ---- state ----
  const dark = matchMedia("(prefers-color-scheme: dark)"), still = matchMedia("(prefers-reduced-motion)");
  const inputs = Object.fromEntries(["set", "map", "show", "a", "b", "by", "class", "search", "lasso"].map(name => [name, part(name)]));
  let set, views, chosen, order, layers, hovered = -1, kept = -1, lasso = null, cell = null, turn = 0.6, tilt = 0.42;
  const color = label => names.colors[dark.matches ? 1 : 0][label % names.colors[0].length];
  let styles = new Map();
  const style = name => {
    if (!styles.has(name)) styles.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
    return styles.get(name);
  };
  const label = image => set.labels[set.places[image]];
  const file = image => names.images[set.places[image]];
  const run = input => set.runs[inputs[input].value];
  const says = (run, by = inputs.by.value) => (by === "vote" ? run.votes : run.says);
  // Keeps the next or the last of the chosen images; from none, the first or the last.
  const go = by => {
    if (!order.length) return;
    const place = order.indexOf(kept);
    keep(order[place < 0 ? (by > 0 ? 0 : order.length - 1) : (place + by + order.length) % order.length]);
    // The large map follows to an image beyond what it shows.
    const [large] = views, at = large.place?.(kept);
    if (at && zoomed.apply(at).some(share => share < 0 || share > 1)) {
      d3.select(large.canvas).call(zoom.translateTo, ...at.map(share => share * large.canvas.clientWidth));
    }
  };
  const current = () => (hovered >= 0 ? hovered : kept);
  const percent = value => `${(100 * value).toFixed(1)} %`;

  const fill = (select, options) => {
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    const box = select.closest("label");
    box.hidden = options.length < 2;
  };

  // ---- maps ----
  // A map is a canvas with the points, a ring around the image at hand, and a line that is being drawn.
  function mapOf(run, large) {
    const canvas = make("canvas", { className: "points" });
    const ring = make("span", { className: "ring", hidden: true });
    const box = make("div", { className: "box" }, canvas, ring);
    box.insertAdjacentHTML("beforeend", "<svg class=line><polygon></polygon></svg>");
    const view = { run, large, canvas, ring, outline: box.querySelector("polygon"), element: box };
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Map of the validation images by ${run.name}`);
    if (large) {
      canvas.tabIndex = 0;
      canvas.addEventListener("keydown", onKey);
    } else {
      const title = make("button", { type: "button", className: "title", textContent: run.name });
      title.addEventListener("click", () => enlarge(run));
      title.setAttribute("aria-label", `Show the map of ${run.name} large`);
      view.element = make("div", {}, title, box);
    }
    listen(view);
    return view;
  }

  // The part that all maps show, in sides of a map.
  let zoomed = d3.zoomIdentity;
  const LINKED = {}, zoom = d3.zoom(), [within, speed] = [zoom.constrain(), zoom.wheelDelta()];
  zoom.scaleExtent([1, 16])
    .constrain((transform, extent) => within(transform, extent, extent))
    // A notch of a wheel is no more than 1.3 times.
    .wheelDelta(event => Math.max(-0.4, Math.min(0.4, speed(event))))
    // A wheel alone and one finger scroll the page.
    .filter(event => {
      if (path) return false;
      if (event.touches) return event.touches.length > 1;
      return event.type === "wheel" ? event.ctrlKey || event.metaKey : event.shiftKey && !event.button;
    })
    .on("zoom", function ({ transform: { k, x, y }, sourceEvent }) {
      if (sourceEvent === LINKED) return;
      zoomed = d3.zoomIdentity.translate(x / this.clientWidth, y / this.clientWidth).scale(k);
      link(this);
      drawAll();
    });
  // Tells all maps but the one that knows what part is shown.
  function link(known) {
    const { k, x, y } = zoomed;
    for (const { canvas } of views) {
      const side = canvas.clientWidth;
      if (canvas !== known) d3.select(canvas).call(zoom.transform, d3.zoomIdentity.translate(x * side, y * side).scale(k), null, LINKED);
    }
    part("whole").disabled = k === 1;
    part("scale").textContent = `${k.toFixed(1)}\u00d7`;
  }
  // Zooms around the image at hand, or the middle; by 0 to the whole map.
  function zoomBy(factor) {
    const [{ canvas, place }] = views, image = current();
    const around = image >= 0 && place ? zoomed.apply(place(image)).map(at => at * canvas.clientWidth) : null;
    d3.select(canvas).transition().duration(still.matches ? 0 : 200).call(zoom.scaleTo, factor ? zoomed.k * factor : 1, around);
  }
  function onKey(event) {
    const step = { ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowUp: [0, -1] }[event.key];
    const factor = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || (!step && factor === undefined)) return;
    event.preventDefault();
    if (!step) return zoomBy(factor);
    const by = -this.clientWidth / 5 / zoomed.k;
    if (event.shiftKey) d3.select(this).call(zoom.translateBy, step[0] * by, step[1] * by);
    else go(step[0] + step[1]);
  }

  // The line that is being drawn.
  let path = null;
  const outline = (view, points) => { view.outline.setAttribute("points", points.join(" ")); };
  function listen(view) {
    const drag = d3.drag().clickDistance(6)
      .filter(event => !event.button && !event.shiftKey && !event.ctrlKey && (!event.touches || (inputs.lasso.checked && event.touches.length === 1)))
      .on("start", event => { path = [[event.x, event.y]]; })
      .on("drag", event => {
        path.push([event.x, event.y]);
        if (!solid()) return outline(view, path);
        [turn, tilt] = [turn + event.dx / 150, Math.max(-1.5, Math.min(1.5, tilt + event.dy / 150))];
        drawAll();
      })
      .on("end", () => {
        const [drawn, side] = [path, view.canvas.clientWidth];
        path = null;
        outline(view, []);
        if (solid() || !view.place || Math.abs(d3.polygonArea(drawn)) < 30) return;
        const around = drawn.map(point => zoomed.invert(point.map(at => at / side)));
        lasso = Uint8Array.from({ length: set.images }, (_, image) => d3.polygonContains(around, view.place(image)));
        choose();
      });
    d3.select(view.canvas).call(zoom).on("dblclick.zoom", null).call(drag).style("touch-action", null)
      .on("pointermove", event => { if (!event.buttons) hover(nearest(view, event, 12)); })
      .on("pointerleave", () => hover(-1))
      .on("click", event => {
        const image = nearest(view, event, 20);
        keep(image === kept ? -1 : image);
      });
  }

  function nearest(view, event, reach) {
    const { canvas, place } = view, side = canvas.clientWidth;
    if (!place) return -1;
    if (view.order !== order || view.treeOf !== place) {
      [view.order, view.treeOf] = [order, place];
      view.tree = d3.quadtree(order, image => place(image)[0], image => place(image)[1]);
    }
    const [x, y] = zoomed.invert(d3.pointer(event, canvas).map(at => at / side));
    return view.tree.find(x, y, reach / side / zoomed.k) ?? -1;
  }

  const solid = () => inputs.map.value === "solid";
  // How a place on the axes of a map falls on a map that is not zoomed, in sides of it: two rows of a matrix, across and down.
  function projection() {
    const scale = 0.94 / names.steps;
    if (!solid()) return [[scale, 0, 0, 0.03], [0, -scale, 0, 0.97]];
    const [ct, st, cl, sl] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
    const rows = [[ct, st, 0], [st * sl, -ct * sl, -cl]].map(row => row.map(value => value * scale / 1.5));
    return rows.map(row => [...row, 0.5 - names.steps / 2 * row.reduce((sum, value) => sum + value)]);
  }

  // What lies on a map, the lowest first: color, opacity, share of the size, images.
  function layersOf() {
    const all = order.length === set.images;
    const left = all ? [] : [[style("--line"), 1, 0.7, [...chosen.keys()].filter(image => !chosen[image])]];
    // In rounds and by a fixed shuffle, as the pictures have it, so that no class lies on top of all others.
    const count = set.classes.length, rounds = Array.from({ length: 8 * count }, () => []);
    for (const image of order) rounds[(Math.imul(image, 0x9e3779b1) >>> 29) * count + label(image)]?.push(image);
    return [...left, ...rounds.map((images, at) => [color(at % count), all ? 0.75 : 0.95, 1, images])];
  }

  function draw(view) {
    const { canvas } = view, side = canvas.clientWidth, dots = Math.min(2, devicePixelRatio || 1);
    if (!side) return;
    const axes = view.run.maps[inputs.map.value];
    const width = canvas.width = canvas.height = Math.round(side * dots);
    const context = canvas.getContext("2d");
    if (!axes) {
      view.place = null;
      context.scale(dots, dots);
      context.fillStyle = style("--soft");
      return context.fillText("no such map", 10, 20);
    }
    const rows = projection(), [[a, b, c, d], [e, f, g, h]] = rows, [x, y, z = x] = axes;
    view.place = image => [a * x[image] + b * y[image] + c * z[image] + d, e * x[image] + f * y[image] + g * z[image] + h];
    // Points grow with the map, but less.
    const size = (view.large ? 4.5 : 2.5) * Math.cbrt(zoomed.k);
    if (webgl) context.drawImage(webgl(view, axes, rows, size * dots), 0, 0, width, width, 0, 0, width, width);
    else {
      context.scale(dots, dots);
      for (const [color, opacity, share, images] of layers) {
        [context.fillStyle, context.globalAlpha] = [color, opacity];
        for (const image of images) {
          const [across, down] = zoomed.apply(view.place(image));
          context.fillRect(across * side - size * share / 2, down * side - size * share / 2, size * share, size * share);
        }
      }
    }
    point(view);
  }

  // Draws a map by WebGL. One context draws all maps, since browsers allow few, and the map's canvas takes the picture over. Where there is
  // no WebGL, or one that the processor plays, the canvas draws; the address may end in `#canvas` or `#webgl` to choose.
  function webglOf(how) {
    const canvas = make("canvas"), options = { failIfMajorPerformanceCaveat: how !== "#webgl" };
    const gl = how === "#canvas" ? null : canvas.getContext("webgl", options);
    // Not every browser owns up to a processor that plays the GPU, but for the name.
    const name = gl?.getParameter(gl.getExtension("WEBGL_debug_renderer_info")?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER);
    if (!gl || (how !== "#webgl" && /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name))) return null;
    canvas.addEventListener("webglcontextlost", () => { webgl = null; drawAll(); });
    const program = gl.createProgram();
    const shaders = [[gl.VERTEX_SHADER, `attribute vec4 place; attribute vec4 color; attribute float share;
        uniform vec4 across, down; uniform float full; varying lowp vec4 shade;
        void main() {
          gl_Position = vec4(dot(across, place), dot(down, place), 0.0, 1.0);
          gl_PointSize = share * full;
          shade = vec4(color.rgb * color.a, color.a);
        }`], [gl.FRAGMENT_SHADER, "varying lowp vec4 shade; void main() { gl_FragColor = shade; }"]];
    for (const [type, source] of shaders) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const [across, down, full] = ["across", "down", "full"].map(name => gl.getUniformLocation(program, name));
    const attributes = [["place", 3, gl.FLOAT, 0], ["share", 1, gl.FLOAT, 12], ["color", 4, gl.UNSIGNED_BYTE, 16]]
      .map(([name, ...rest]) => [gl.getAttribLocation(program, name), ...rest]);
    const probe = make("canvas").getContext("2d");

    // Twenty bytes a point, in the order of the layers: place, share of the size, color.
    function load(view, [x, y, z]) {
      const packed = new ArrayBuffer(20 * set.images), floats = new Float32Array(packed), words = new Uint8Array(packed);
      let at = 0;
      for (const [color, opacity, share, images] of layers) {
        // A browser gives a color back as #rrggbb.
        probe.fillStyle = color;
        const shade = [1, 3, 5].map(from => parseInt(probe.fillStyle.slice(from, from + 2), 16));
        for (const image of images) {
          floats.set([x[image], y[image], z ? z[image] : 0, share], 5 * at);
          words.set([...shade, 255 * opacity], 20 * at++ + 16);
        }
      }
      view.buffer ??= gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, view.buffer);
      gl.bufferData(gl.ARRAY_BUFFER, packed, gl.DYNAMIC_DRAW);
    }

    return (view, axes, rows, size) => {
      const width = view.canvas.width;
      // As large as the largest map: another size costs a new buffer. A picture stands in the upper left corner.
      if (canvas.width < width) canvas.width = canvas.height = width;
      if (view.loaded !== layers || view.axes !== axes) load(view, axes);
      [view.loaded, view.axes] = [layers, axes];
      gl.bindBuffer(gl.ARRAY_BUFFER, view.buffer);
      for (const [place, count, type, from] of attributes) {
        gl.enableVertexAttribArray(place);
        gl.vertexAttribPointer(place, count, type, type === gl.UNSIGNED_BYTE, 20, from);
      }
      // From sides of a map to the square from -1 to 1, upwards.
      const [right, low] = rows.map(row => row.map(value => 2 * zoomed.k * value));
      gl.uniform4f(across, right[0], right[1], right[2], right[3] + 2 * zoomed.x - 1);
      gl.uniform4f(down, -low[0], -low[1], -low[2], 1 - low[3] - 2 * zoomed.y);
      gl.uniform1f(full, size);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.viewport(0, canvas.height - width, width, width);
      gl.drawArrays(gl.POINTS, 0, set.images);
      return canvas;
    };
  }
  let webgl = webglOf(location.hash);
  root.dataset.drawnBy = webgl ? "webgl" : "canvas";

  function point(view) {
    const image = current();
    view.ring.hidden = image < 0 || !view.place;
    if (view.ring.hidden) return;
    const [x, y] = zoomed.apply(view.place(image)).map(at => at * view.canvas.clientWidth);
    view.ring.style.transform = `translate(${x}px, ${y}px)`;
  }

  let waiting = new Set();
  function later(what) {
    if (!waiting.size) requestAnimationFrame(() => {
      const all = waiting;
      waiting = new Set();
      for (const what of all) what();
    });
    waiting.add(what);
  }
  // Maps that are not as they should be are drawn for some 10 ms a frame: the large one always, then those that have waited longest.
  const stale = new Set();
  function drawAll() {
    for (const view of views) stale.add(view);
    later(drawStale);
  }
  function drawStale() {
    const end = performance.now() + 10;
    for (const view of [views[0], ...stale]) {
      if (stale.delete(view)) draw(view);
      if (performance.now() > end) break;
    }
    if (stale.size) later(drawStale);
  }
  // Rings follow at once, the card some 20 times a second.
  let carded = 0, due = 0;
  const pointAll = () => {
    views.forEach(point);
    clearTimeout(due);
    due = setTimeout(() => { carded = performance.now(); card(); }, Math.max(0, carded + 50 - performance.now()));
  };
  function hover(image) {
    if (image !== hovered) { hovered = image; later(pointAll); }
  }
  function keep(image) {
    kept = image;
    hovered = -1;
    later(pointAll);
  }

  // ---- thumbnails ----
  function thumb(context, global, x, y, side) {
    const sprite = names.sprites, sheet = sprite && sheets[Math.floor(global / sprite.per_sheet)];
    if (sheet) {
      const place = global % sprite.per_sheet;
      const [column, row] = [place % sprite.columns, Math.floor(place / sprite.columns)];
      context.drawImage(sheet, column * sprite.side, row * sprite.side, sprite.side, sprite.side, x, y, side, side);
    } else {
      context.fillStyle = color(set.labels[global]);
      context.fillRect(x, y, side, side);
    }
  }
  function canvasOf(width, height) {
    const dots = Math.min(2, devicePixelRatio || 1);
    const canvas = make("canvas", { width: width * dots, height: height * dots });
    canvas.style.cssText = `width:${width}px;height:${height}px`;
    canvas.getContext("2d").scale(dots, dots);
    return canvas;
  }

  // ---- the image at hand ----
  const MOST_NAMED = 20; // classes of a legend
  const SIDE = innerWidth < 1400 ? 22 : 30;
  let shown = null;
  function card() {
    const image = current();
    shown.element.classList.toggle("empty", image < 0);
    if (image < 0) return;
    thumb(shown.picture.getContext("2d"), set.places[image], 0, 0, 96);
    shown.name.textContent = file(image);
    shown.breed.textContent = set.classes[label(image)];
    set.runs.forEach((run, index) => {
      const row = shown.rows[index];
      const right = by => says(run, by)[image] === label(image);
      if (run.says) {
        row.says.textContent = `${right("said") ? "\u2713" : "\u2717"} ${set.classes[run.says[image]]}`;
        row.says.className = right("said") ? "right" : "wrong";
        row.sure.textContent = `${(run.sure[image] / 10).toFixed(0)} %`;
      }
      if (run.near) {
        const context = row.near.getContext("2d");
        let same = 0;
        for (let n = 0; n < run.neighbors; n++) {
          const global = run.near[image * run.neighbors + n], x = n * (SIDE + 4);
          const alike = set.labels[global] === label(image);
          same += alike;
          context.fillStyle = style(alike ? "--good" : "--bad");
          context.fillRect(x, 0, SIDE + 2, SIDE + 5);
          thumb(context, global, x + 1, 1, SIDE);
          // A second sign beside the colour: the bar below the images of other classes is broken.
          if (!alike) context.clearRect(x + SIDE / 2 - 3, SIDE + 1, 8, 4);
        }
        row.vote.textContent = `${same} of ${run.neighbors}`;
        row.vote.className = right("vote") ? "right" : "wrong";
      }
    });
  }
  function layCard() {
    const cell = () => make("td");
    const said = set.runs.some(run => run.says), near = set.runs.some(run => run.near);
    const rows = set.runs.map(run => {
      const row = { says: cell(), sure: cell(), vote: cell() };
      row.near = canvasOf((SIDE + 4) * (run.neighbors || 1), SIDE + 5);
      row.near.title = "The nearest images; point at one to see its name";
      row.near.setAttribute("aria-hidden", "true");
      row.near.addEventListener("pointermove", event => {
        const image = current(), n = Math.floor(event.offsetX / (SIDE + 4));
        if (image < 0 || !run.near || n >= run.neighbors) return;
        const global = run.near[image * run.neighbors + n];
        row.near.title = `${names.images[global]}: ${set.classes[set.labels[global]] ?? ""}`;
      });
      row.element = make("tr", {}, make("th", { scope: "row", textContent: run.name }), ...(said ? [row.says, row.sure] : []),
        ...(near ? [row.vote, make("td", {}, row.near)] : []));
      return row;
    });
    const heads = ["Head", ...(said ? ["says", "sure"] : []), ...(near ? ["of its class", `${Math.max(...set.runs.map(run => run.neighbors))} nearest`] : [])];
    const head = make("thead", {}, make("tr", {}, ...heads.map(text => make("th", { scope: "col", textContent: text }))));
    const [picture, name, breed] = [canvasOf(96, 96), make("p", { className: "mono" }), make("p", { className: "breed" })];
    const step = (text, by) => {
      const button = make("button", { type: "button", textContent: text });
      button.addEventListener("click", () => go(by));
      return button;
    };
    const top = make("div", { className: "image" }, picture, make("div", {}, breed, name, step("\u2039 before", -1), step("next \u203a", 1)));
    const table = make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, head, make("tbody", {}, ...rows.map(row => row.element))));
    table.setAttribute("role", "region");
    table.setAttribute("aria-label", "What each head says of the image at hand");
    picture.setAttribute("aria-hidden", "true");
    const element = part("card");
    element.replaceChildren(make("p", { className: "hint", textContent: "Point at an image, or step through the chosen ones." }), top, table);
    shown = { element, picture, name, breed, rows };
  }

  // ---- choice ----
  const SHOWN = 48;
  function choose() {
    const text = inputs.search.value.trim().toLowerCase(), only = inputs.class.value, [a, b] = [run("a"), run("b")];
    const wrong = (run, image) => says(run)?.[image] !== label(image);
    const all = set.runs.filter(run => says(run));
    const tests = {
      all: () => true,
      wrong: image => wrong(a, image),
      sure: image => wrong(a, image),
      ab: image => !wrong(a, image) && wrong(b, image),
      split: image => all.some(run => says(run)[image] !== says(all[0])[image]),
      twin: image => twins()[image] >= 2 / 3,
      label: image => wrong(all[0], image) && all.every(run => says(run)[image] === says(all[0])[image]),
    };
    const show = says(a) || inputs.show.value === "twin" ? inputs.show.value : "all";
    chosen = Uint8Array.from({ length: set.images }, (_, image) =>
      (only === "" || label(image) === +only) && (!text || file(image).toLowerCase().includes(text)) && (!lasso || lasso[image]) &&
      (!cell || (label(image) === cell[0] && says(a)[image] === cell[1])) && tests[show](image));
    order = [...chosen.keys()].filter(image => chosen[image]);
    if (show === "twin") order.sort((x, y) => twins()[y] - twins()[x] || x - y);
    if (show === "sure" && a.sure) order.sort((x, y) => a.sure[y] - a.sure[x] || x - y);
    if (kept >= 0 && !chosen[kept]) kept = -1;
    layers = layersOf();
    const names = [lasso && "drawn around", cell && `${set.classes[cell[0]]} taken for ${set.classes[cell[1]]}`].filter(Boolean);
    part("count").textContent = `${order.length.toLocaleString("en")} of ${set.images.toLocaleString("en")} images` +
      (names.length ? `: ${names.join(", ")}` : "");
    legend();
    pick();
    cells();
    pairs();
    centers();
    drawAll();
    pointAll();
  }

  // The share of heads under which an image has the same nearest image, of every image; asked for of three heads at least.
  function twins() {
    const runs = set.runs.filter(run => run.near);
    return set.twins ??= Float64Array.from({ length: set.images }, (_, image) => {
      const near = runs.map(run => run.near[image * run.neighbors]);
      return Math.max(...near.map(one => near.filter(other => other === one).length)) / near.length;
    });
  }

  function pick() {
    const box = part("picked");
    if (order.length === set.images) return box.replaceChildren();
    box.replaceChildren(...order.slice(0, SHOWN).map(button), ...(order.length > SHOWN ? [make("span", { textContent: `and ${(order.length - SHOWN).toLocaleString("en")} more` })] : []));
  }

  // An image that shows itself on the maps and is kept by a click.
  function button(image) {
    const canvas = canvasOf(56, 56);
    thumb(canvas.getContext("2d"), set.places[image], 0, 0, 56);
    const button = make("button", { type: "button", title: `${file(image)}: ${set.classes[label(image)]}` }, canvas);
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => keep(image));
    button.addEventListener("pointerenter", () => hover(image));
    button.addEventListener("pointerleave", () => hover(-1));
    return button;
  }

  function cells() {
    const details = part("cells"), a = run("a"), classes = set.classes;
    details.hidden = !says(a) || classes.length > 50;
    if (details.hidden || !details.open) return;
    const counts = classes.map(() => new Uint32Array(classes.length));
    for (let image = 0; image < set.images; image++) counts[label(image)][says(a)[image]]++;
    const head = (text, scope) => make("th", { scope, textContent: text });
    const rows = classes.map((name, row) => make("tr", {}, head(name, "row"), ...classes.map((other, column) => {
      const count = counts[row][column], cellOf = make("td", { className: "n" });
      if (count) {
        const button = make("button", { type: "button", textContent: count });
        button.setAttribute("aria-label", `${count} of ${name} taken for ${other}`);
        button.addEventListener("click", () => { cell = [row, column]; choose(); });
        cellOf.append(button);
      }
      return cellOf;
    })));
    const caption = make("caption", { textContent: `${a.name}: images by true class (rows) and predicted class (columns)` });
    const top = make("thead", {}, make("tr", {}, head("true class", "col"), ...classes.map(name => head(name, "col"))));
    details.querySelector(".scroll").replaceChildren(make("table", {}, caption, top, make("tbody", {}, ...rows)));
  }

  // What a folded part shows of head A, and of one class if any; filled where it is open and shows something else; hidden where there is
  // nothing to show.
  const filled = {};
  function folded(name, some, fill, only = "") {
    const details = part(name), what = [inputs.set.value, inputs.a.value, only, dark.matches].join();
    details.hidden = !some;
    if (!some || !details.open || filled[name] === what) return;
    filled[name] = what;
    details.querySelector("div").replaceChildren(...fill());
  }
  const PAIRS = ["Of two classes, the nearest", "Of one class, the farthest"];
  function pairs() {
    const a = run("a");
    folded("pairs", a.pairs.some(pairs => pairs.length), () => a.pairs.flatMap((pairs, kind) => [
      make("p", { textContent: `${PAIRS[kind]} under ${a.name}:` }),
      make("div", { className: "pairs" }, ...pairs.map(({ images, degrees }) => make("div", {}, ...images.map(button),
        make("span", { textContent: `${[...new Set(images.map(image => set.classes[label(image)]))].join(" and ")}, ${degrees.toFixed(1)}\u00b0` })))),
    ]));
  }
  function centers() {
    const a = run("a"), only = inputs.class.value;
    folded("centers", a.centers.length, () => a.centers.flatMap((weights, of) => {
      if (only !== "" ? of !== +only : of >= 50) return [];
      return [make("p", { textContent: set.classes[of] }), ...weights.map(({ count, images }, weight) => {
        const row = canvasOf((SIDE + 4) * Math.max(1, images.length), SIDE + 5);
        images.forEach((global, n) => thumb(row.getContext("2d"), global, n * (SIDE + 4) + 1, 1, SIDE));
        row.setAttribute("aria-hidden", "true");
        row.addEventListener("pointermove", event => {
          const global = images[Math.floor(event.offsetX / (SIDE + 4))];
          row.title = global === undefined ? "" : names.images[global];
        });
        return make("div", { className: "weight" }, make("span", { textContent: `weight ${weight + 1}: ${count.toLocaleString("en")} images` }), row);
      })];
    }), only);
  }

  // ---- putting it up ----
  function enlarge(run) {
    const large = mapOf(run, true);
    views = [large, ...views.filter(view => !view.large)];
    part("title").textContent = run.name;
    part("large").replaceChildren(large.element);
    link(null);
    drawAll();
  }
  // All classes, or of too many those with the most chosen images. Keys that stay keep the focus.
  function legend() {
    let [named, rest] = [[...set.classes.keys()], ""];
    if (named.length > MOST_NAMED) {
      const counts = set.classes.map(() => 0);
      for (const image of order) counts[label(image)] += 1;
      named = named.filter(index => counts[index] > 0).sort((x, y) => counts[y] - counts[x] || x - y);
      const more = named.length - MOST_NAMED;
      rest = more > 0 ? `and ${more.toLocaleString("en")} more classes` : "";
      named.length = Math.min(named.length, MOST_NAMED);
    }
    const shown = [inputs.set.value, dark.matches, ...named, rest].join();
    if (shown === legend.shown) return;
    legend.shown = shown;
    part("legend").replaceChildren(...named.map(index => {
      const button = make("button", { type: "button" }, make("i", { style: `background:${color(index)}` }), set.classes[index]);
      button.addEventListener("click", () => {
        inputs.class.value = inputs.class.value === String(index) ? "" : index;
        choose();
      });
      return button;
    }), rest);
  }
  function begin() {
    set = names.sets[inputs.set.value || 0];
    [hovered, kept, lasso, cell] = [-1, -1, null, null];
    const runs = set.runs.map((run, index) => [index, run.name]);
    const maps = [["tsne", "t-SNE"], ["pca", "PCA"], ["solid", "PCA in space: drag to turn"]];
    fill(inputs.map, maps.filter(([name]) => set.runs.some(run => run.maps[name])));
    fill(inputs.a, runs);
    fill(inputs.b, runs);
    if (runs.length > 1) inputs.b.value = 1;
    fill(inputs.class, [["", "all"], ...set.classes.map((name, index) => [index, name])]);
    const ways = [["said", "highest score"], ["vote", `vote of ${names.votes} neighbours`]];
    fill(inputs.by, ways.filter(([by]) => set.runs.every(run => says(run, by))));
    const twin = inputs.show.querySelector("[value=twin]");
    twin.hidden = twin.disabled = set.runs.filter(run => run.near).length < 3;
    if (twin.hidden && inputs.show.value === "twin") inputs.show.value = "all";
    inputs.show.closest("label").hidden = inputs.by.options.length === 0 && twin.hidden;
    views = set.runs.map(run => mapOf(run, false));
    part("maps").replaceChildren(...views.map(view => view.element));
    layCard();
    zoomed = d3.zoomIdentity;
    enlarge(set.runs[0]);
    choose();
  }
  fill(inputs.set, names.sets.map((set, index) => [index, set.condition]));
  root.hidden = false;
  begin();
  inputs.set.addEventListener("change", begin);
  for (const name of ["show", "a", "b", "by", "class"]) inputs[name].addEventListener("change", () => { cell = null; choose(); });
  inputs.search.addEventListener("input", choose);
  inputs.map.addEventListener("change", () => {
    [lasso, zoomed] = [null, d3.zoomIdentity];
    link(null);
    choose();
  });
  for (const [name, factor] of Object.entries({ nearer: 1.5, farther: 1 / 1.5, whole: 0 })) part(name).addEventListener("click", () => zoomBy(factor));
  inputs.lasso.addEventListener("change", () => root.classList.toggle("drawing", inputs.lasso.checked));
  part("clear").addEventListener("click", () => {
    [lasso, cell] = [null, null];
    [inputs.class.value, inputs.search.value, inputs.show.value] = ["", "", "all"];
    choose();
  });
  for (const [name, fill] of Object.entries({ cells, pairs, centers })) part(name).addEventListener("toggle", fill);
  root.querySelector("form").addEventListener("submit", event => event.preventDefault());
  dark.addEventListener("change", () => { styles = new Map(); choose(); });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; link(null); drawAll(); } });
});
