// The search page. Whatever comes from captions, ids and file names is put on the page as text, never as markup.

const $ = (id) => document.getElementById(id);
const { count: COUNT, most: MOST, upload: UPLOAD } = Object.fromEntries(
  Object.entries(document.body.dataset).map(([name, value]) => [name, Number(value)]));
const REGIONS = document.body.dataset.regions === "true";
const TITLE = document.title;
const EXPLAINED_AT_ONCE = 2; // the server has one matcher; the next search must not wait behind a whole grid

// What is asked: {q} or {like} or {like, region} or {like, box}, each with k and order; or {file, url} with box or region.
let asked = {};
let answer = null;
let chosen = 0; // the word whose regions are lit
let explained = new Map(); // image -> explanation
let running = new AbortController();
let opened = null; // the result in the dialog

function make(name, attributes = {}, ...children) {
  const element = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// ---- asking the server

async function ask(path, parameters, options = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(`${path}?${query}`, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is `itmkit serve` still running?");
    }
    if (response.status === 503 && attempt < 5) {
      await new Promise((done) => setTimeout(done, 500 * 2 ** attempt));
      continue;
    }
    const found = await response.json().catch(() => null);
    if (response.ok && found) return found;
    throw new Error(found?.error?.problems?.join("\n") ?? `The server answered with error ${response.status}.`);
  }
}

function place() {
  const address = new URLSearchParams(location.search);
  const box = address.get("box"), region = address.get("region");
  const next = { k: Number(address.get("k")) || COUNT, order: address.get("order") === "candidates" ? "candidates" : "matcher" };
  if (address.get("q")) next.q = address.get("q");
  else if (address.get("like")) Object.assign(next, { like: address.get("like") }, box && { box }, region && { region });
  return next;
}

function go(next, { push = true, focus } = {}) {
  if (asked.url && asked.url !== next.url) URL.revokeObjectURL(asked.url);
  asked = { k: COUNT, order: "matcher", ...next };
  if (push && !asked.file) {
    const address = new URLSearchParams();
    for (const name of ["q", "like", "region", "box"]) if (asked[name] !== undefined) address.set(name, asked[name]);
    if (asked.k !== COUNT) address.set("k", asked.k);
    if (asked.order !== "matcher") address.set("order", asked.order);
    history.pushState(null, "", address.size ? `/?${address}` : "/");
  } else if (push) {
    history.pushState(null, "", "/"); // a picture of the user's own is nowhere that an address could name
  }
  return run(focus);
}

async function run(focus) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const { q, like, region, box, k, order, file } = asked;
  $("query").value = q ?? "";
  document.title = q ? `${q} · ${TITLE}` : TITLE;
  document.querySelector(`#order [value=${order}]`).checked = true;
  const nothing = !q && !like && !file;
  $("start").hidden = !nothing;
  $("asked").hidden = nothing;
  $("error").hidden = true;
  if (nothing) return show(null);
  $("status").textContent = "Searching…";
  if (file) setTimeout(() => {
    if (!signal.aborted && $("results").hasAttribute("aria-busy"))
      $("status").textContent = "Searching… The first picture takes longer: its detector has to be loaded.";
  }, 2000);
  $("results").classList.add("old");
  $("results").setAttribute("aria-busy", "true");
  try {
    const part = region !== undefined || box !== undefined;
    let found;
    if (q) found = await ask("/api/search", { q, k, order }, { signal });
    else if (like) found = await ask(part ? "/api/region" : "/api/like", { image: like, region, box, k }, { signal });
    else found = await ask(part ? "/api/region" : "/api/like", { region, box, k }, { signal, method: "POST", body: file });
    show(found);
    if (focus !== undefined) focusResult(focus);
    if (q) await explainAll(signal);
  } catch (error) {
    if (error.name !== "AbortError") fail(error.message);
  }
}

function fail(message) {
  show(null);
  $("asked").hidden = true;
  $("error").textContent = message;
  $("error").hidden = false;
}

// ---- showing the answer

function show(found) {
  const results = found?.results ?? [], words = found?.words ?? [];
  if (!found || found.query !== answer?.query) {
    explained = new Map();
    chosen = words.reduce((best, word, k) => ((word.importance ?? 0) > (words[best].importance ?? 0) ? k : best), 0);
  }
  answer = found;
  $("results").classList.remove("old");
  $("results").removeAttribute("aria-busy");
  $("results").replaceChildren(...results.map(card));
  $("words").hidden = !words.length;
  showChips($("chips"), words);
  showTree(words);
  showGiven(found);
  $("order").hidden = !asked.q || !found;
  $("more").hidden = !found || results.length < asked.k || asked.k >= MOST;
  if (found) $("status").textContent = told(found, results);
}

function told(found, results) {
  const many = `${results.length} ${results.length === 1 ? "picture" : "pictures"}`;
  if (!results.length) return "The index holds no pictures.";
  if (found.words) {
    const unknown = found.words.filter((word) => word.unknown).map((word) => `“${word.word}”`);
    const lacking = unknown.length ? ` Training did not see ${unknown.join(", ")}.` : "";
    return (found.order === "candidates" ? `${many}, nearest by one vector.` : `${many}, best first by the matcher.`) + lacking;
  }
  if (found.region !== undefined) return `${many} with a region like ${found.name ? `this “${found.name}”` : "this one"}.`;
  return `${many} like this one.`;
}

function picture(address, alt) {
  const image = make("img", { src: address, alt, loading: "lazy", decoding: "async" });
  const frame = make("span", { class: "picture" }, image);
  let tried = 0;
  image.addEventListener("error", () => {
    if (tried++ < 1) return void setTimeout(() => { image.src = `${address}&again=1`; }, 1500); // the server was busy, perhaps
    frame.classList.add("none");
    frame.dataset.why = "no picture";
  });
  return frame;
}

function card(result, k) {
  const marks = make("span", { class: "marks" }, make("span", { class: "rank" }, `${k + 1}`), change(result));
  const byVector = result.score === null || asked.order === "candidates";
  const score = byVector ? result.candidate_score ?? result.score : result.score;
  const title = result.candidate_rank === undefined ? "similarity" : byVector ? "product of the two vectors" : "score of the matcher";
  if (typeof score === "number") marks.append(make("span", { class: "score", title }, score.toFixed(3)));
  const button = make("button", { type: "button", class: "result", tabindex: k ? -1 : 0, "data-image": result.image,
    "aria-label": `Result ${k + 1}: ${result.caption || result.image}` },
    picture(result.thumb, result.caption || result.image),
    make("span", { class: "under" }, marks, make("span", { class: "caption" }, result.caption || result.image)));
  button.title = result.image;
  button.addEventListener("click", () => open(result));
  if (result.region) light(button.querySelector(".picture"), result.size, result.region);
  return make("li", {}, button);
}

function change(result) {
  if (result.candidate_rank === undefined) return "";
  const [from, to] = [result.candidate_rank, result.rank], by = from - to;
  if (result.score === null) return "";
  const here = asked.order === "candidates" ? `re-ranked to ${to}` : `candidate ${from}`;
  const sign = by > 0 ? `▲ ${by}` : by < 0 ? `▼ ${-by}` : "=";
  const say = by > 0 ? `up ${by}` : by < 0 ? `down ${-by}` : "unchanged";
  return make("span", { class: by > 0 ? "up" : by < 0 ? "down" : "same", title: here, "aria-label": `${say}, ${here}` }, sign);
}

// A region is lit and the rest dimmed.
function light(frame, size, region) {
  frame.querySelectorAll(":scope > svg.spot, :scope > .named").forEach((old) => old.remove());
  if (!region || !size[0] || !size[1]) return;
  const [x1, y1, x2, y2] = region.box, [width, height] = size;
  const svg = make("svg:svg", { class: "spot", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    make("svg:path", { class: "dim", d: `M-1 -1H${width + 1}V${height + 1}H-1ZM${x1} ${y1}V${y2}H${x2}V${y1}Z` }),
    make("svg:rect", { class: "lit", x: x1, y: y1, width: x2 - x1, height: y2 - y1 }));
  frame.append(svg);
  if (region.name) frame.append(make("span", { class: "named" }, region.name));
}

function spotOf(explanation, word) {
  const weights = explanation?.attention?.[word];
  if (!weights?.length) return null;
  const best = weights.reduce((top, weight, k) => (weight > weights[top] ? k : top), 0);
  return explanation.regions[best] ?? null;
}

async function explainAll(signal) {
  answer.results.forEach((result) => lightResult(result.image));
  const waiting = answer.results.map((result) => result.image).filter((image) => !explained.has(image));
  const { query } = answer;
  const one = async () => {
    for (let image = waiting.shift(); image !== undefined; image = waiting.shift()) {
      try {
        explained.set(image, await ask("/api/explain", { image, q: query }, { signal }));
      } catch (error) {
        if (error.name === "AbortError") return;
        continue; // the results are there all the same
      }
      if (!signal.aborted) lightResult(image);
    }
  };
  await Promise.all(Array.from({ length: EXPLAINED_AT_ONCE }, one));
}

function lightResult(image) {
  const explanation = explained.get(image);
  if (!explanation) return;
  const button = [...$("results").querySelectorAll(".result")].find((each) => each.dataset.image === image);
  if (button) light(button.querySelector(".picture"), explanation.size, spotOf(explanation, chosen));
  if (opened?.image === image) showOne();
}

function showChips(where, words) {
  const most = Math.max(1e-9, ...words.map((word) => Math.abs(word.importance ?? 0)));
  where.replaceChildren(...words.map((word, k) => {
    const importance = word.importance ?? 0;
    const bar = make("i", importance < 0 ? { class: "against" } : {});
    bar.style.width = `${Math.round(100 * Math.abs(importance) / most)}%`;
    const what = importance < 0 ? "rises" : "falls";
    const title = `without this word the score ${what} by ${Math.abs(importance).toFixed(3)}${word.unknown ? "; training did not see it" : ""}`;
    const chip = make("button", { type: "button", class: word.unknown ? "chip unknown" : "chip", title,
      "aria-pressed": k === chosen, "aria-label": `${word.word}: ${title}` }, make("span", {}, word.word), bar);
    chip.addEventListener("click", () => choose(k));
    return chip;
  }));
}

function choose(word) {
  chosen = word;
  for (const where of [$("chips"), $("one-words")])
    [...where.children].forEach((chip, k) => chip.setAttribute("aria-pressed", k === chosen));
  for (const image of explained.keys()) lightResult(image);
}

// ---- the dependency tree, as arcs over the words

function showTree(words) {
  const arcs = $("tree").querySelector(".arcs");
  $("tree").hidden = !words.some((word, k) => word.head !== undefined && word.head !== k);
  if ($("tree").hidden) return void arcs.replaceChildren();
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `14px ${getComputedStyle(document.body).fontFamily}`;
  let right = 10;
  const middles = words.map((word) => {
    const width = Math.max(pen.measureText(word.word).width, 34);
    right += width + 26;
    return right - 26 - width / 2;
  });
  if (getComputedStyle($("chips")).direction === "rtl") middles.forEach((x, k) => { middles[k] = right - x; });
  const ends = words.map((word, k) => [Math.min(k, word.head), Math.max(k, word.head)]);
  const spans = ends.map(([a, b]) => b - a);
  const levels = words.map(() => 0);
  // An arc lies over all arcs within it, which are shorter and have their levels before it.
  for (const k of [...words.keys()].filter((k) => spans[k]).sort((i, j) => spans[i] - spans[j])) {
    const within = levels.filter((_, j) => spans[j] < spans[k] && ends[j][0] >= ends[k][0] && ends[j][1] <= ends[k][1]);
    levels[k] = 1 + Math.max(0, ...within);
  }
  const step = 26, base = 14 + step * Math.max(...levels), parts = [];
  words.forEach((word, k) => {
    parts.push(make("svg:text", { x: middles[k], y: base + 20, "text-anchor": "middle" }, word.word));
    if (!spans[k]) return;
    const top = base - step * levels[k], side = middles[word.head] < middles[k] ? 5 : -5;
    const [from, to] = [middles[word.head] + side, middles[k] - side * 0.4];
    const bend = Math.sign(to - from) * Math.min(12, Math.abs(to - from) / 2);
    parts.push(
      make("svg:path", { d: `M${from} ${base}V${top + 8}Q${from} ${top} ${from + bend} ${top}H${to - bend}Q${to} ${top} ${to} ${top + 8}V${base}` }),
      make("svg:path", { class: "head", d: `M${to - 4} ${base - 4}H${to + 4}L${to} ${base + 3}Z` }),
      make("svg:text", { class: "relation", x: (from + to) / 2, y: top - 3, "text-anchor": "middle" }, word.relation));
  });
  const text = words.map((word, k) => (spans[k] ? `${word.word}: ${word.relation} of ${words[word.head].word}` : `${word.word}: root`));
  arcs.replaceChildren(make("svg:svg", { width: right, height: base + 28, role: "img", "aria-label": text.join("; ") }, ...parts));
}

// ---- a picture whose regions can be asked for

// onPart gets {region} for a region that was clicked and {box} for a box that was drawn.
function asker(address, alt, size, regions, height, onPart) {
  const image = make("img", { src: address, alt });
  image.draggable = false;
  const svg = make("svg:svg", { viewBox: `0 0 ${size[0] || 1} ${size[1] || 1}`, preserveAspectRatio: "none" });
  const byArea = regions.map((region, k) => ({ ...region, k }))
    .sort((a, b) => area(b.box) - area(a.box)); // small ones lie above large ones
  for (const { k, name, box: [x1, y1, x2, y2] } of byArea) {
    const rect = make("svg:rect", { class: "region", x: x1, y: y1, width: x2 - x1, height: y2 - y1, tabindex: 0, role: "button",
      "aria-label": `Like this region: ${name || `region ${k + 1}`}` }, make("svg:title", {}, name || `region ${k + 1}`));
    rect.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); onPart({ region: k }); }
    });
    rect.dataset.region = k;
    svg.append(rect);
  }
  const point = (event) => {
    const { left, top, width, height } = svg.getBoundingClientRect();
    const inside = (share) => Math.min(1, Math.max(0, share));
    return [inside((event.clientX - left) / width) * size[0], inside((event.clientY - top) / height) * size[1]];
  };
  let start = null, drawn = null, hit = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button || !size[0]) return;
    event.preventDefault();
    svg.setPointerCapture(event.pointerId);
    start = [event.clientX, event.clientY, ...point(event)];
    hit = event.target.dataset?.region;
  });
  svg.addEventListener("pointermove", (event) => {
    if (!start) return;
    if (!drawn && Math.hypot(event.clientX - start[0], event.clientY - start[1]) < 6) return;
    drawn ??= svg.appendChild(make("svg:rect", { class: "drawn" }));
    const [x1, y1, x2, y2] = sorted(start.slice(2), point(event));
    for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) drawn.setAttribute(key, value);
  });
  const end = (event) => {
    if (!start) return;
    const box = sorted(start.slice(2), point(event)), wasDrawn = drawn && event.type === "pointerup";
    drawn?.remove();
    start = drawn = null;
    if (wasDrawn && area(box) > 0) onPart({ box: box.map((x) => x.toFixed(1)).join(",") });
    else if (event.type === "pointerup" && !wasDrawn && hit !== undefined) onPart({ region: Number(hit) });
  };
  svg.addEventListener("pointerup", end);
  svg.addEventListener("pointercancel", end);
  const frame = make("div", { class: "asker" }, image, svg);
  if (size[0] && size[1]) {
    frame.style.width = `min(100%, calc(${height} * ${size[0] / size[1]}))`;
    image.style.aspectRatio = `${size[0]} / ${size[1]}`;
  }
  return frame;
}

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const sorted = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
const HOW = "Click a region, or draw a box, for pictures with a region like it.";

// The picture that was dropped, or the one of the index that is searched by.
async function showGiven(found) {
  const where = $("given");
  where.hidden = !found || !(asked.file || asked.like);
  if (where.hidden) return void where.replaceChildren();
  const mine = asked;
  let seen = asked.seen;
  if (!seen) {
    seen = asked.file ? { size: found.size, regions: found.regions, picture: asked.url }
      : await ask("/api/image", { image: asked.like }).catch(() => null);
    if (asked !== mine || !seen) return;
    asked.seen = seen;
  }
  const { like, file, url } = asked;
  const part = (chosenPart) => go({ like, file, url, seen, ...chosenPart });
  const shown = asker(seen.picture, "The picture that is searched by", seen.size, seen.regions, "15rem", part);
  if (found.box) light(shown, seen.size, { box: found.box, name: found.name });
  const whole = make("button", { type: "button" }, "The whole picture");
  whole.addEventListener("click", () => part({}));
  where.replaceChildren(shown, make("div", {}, make("p", { class: "hint" }, askable(seen) ? HOW : ""), ...(found.box ? [whole] : [])));
}

const askable = (seen) => Boolean(seen.size?.[0]) && (seen.regions.length > 0 || (asked.file && !REGIONS));

// ---- one result, large

async function open(result) {
  opened = { image: result.image, result };
  $("one-name").textContent = result.image;
  $("one-captions").replaceChildren();
  $("one-hint").textContent = "";
  $("one-picture").replaceChildren(picture(result.thumb, result.caption));
  showOne();
  $("one").showModal();
  const mine = opened;
  try {
    const seen = await ask("/api/image", { image: result.image });
    if (opened !== mine) return;
    opened.seen = seen;
    const part = (chosenPart) => { $("one").close(); go({ like: result.image, ...chosenPart }); };
    $("one-picture").replaceChildren(asker(seen.picture, result.caption || result.image, seen.size, seen.regions, "55dvh", part));
    $("one-hint").textContent = seen.regions.length ? HOW : "";
    $("one-captions").replaceChildren(...seen.captions.map((caption) => make("li", {}, make("bdi", {}, caption))));
    showOne();
  } catch (error) {
    if (opened === mine) $("one-hint").textContent = error.message;
  }
}

function showOne() {
  const explanation = explained.get(opened.image);
  const words = explanation?.words ?? [];
  showChips($("one-words"), words.map((word, k) => ({ ...word, unknown: answer?.words?.[k]?.unknown })));
  const score = opened.result.score ?? opened.result.candidate_score;
  $("one-score").textContent = explanation
    ? `Score ${explanation.score.toFixed(3)}` + (Object.keys(explanation.members).length > 1
      ? ` (${Object.entries(explanation.members).map(([name, value]) => `${name} ${value.toFixed(3)}`).join(", ")})` : "")
    : score !== null && score !== undefined ? `Score ${score.toFixed(3)}` : "";
  const frame = $("one-picture").querySelector(".asker");
  if (!frame || !opened.seen) return;
  light(frame, opened.seen.size, explanation ? spotOf(explanation, chosen) : opened.result.region ?? null);
}

// ---- what the user does

function givePicture(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) return fail(`${file.name}: is not a picture.`);
  if (file.size > UPLOAD) return fail(`${file.name}: is larger than ${UPLOAD / 1e6} MB.`);
  go({ file, url: URL.createObjectURL(file) });
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = $("query").value.trim();
  $("query").blur();
  go(q ? { q, order: asked.order } : {});
});
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { givePicture($("file").files[0]); $("file").value = ""; });
$("more").addEventListener("click", () => go({ ...asked, k: Math.min(MOST, asked.k + COUNT) }, { focus: $("results").children.length }));
$("order").addEventListener("change", (event) => go({ ...asked, order: event.target.value }));
$("one-close").addEventListener("click", () => $("one").close());
$("one-like").addEventListener("click", () => { const { image } = opened; $("one").close(); go({ like: image }); });
$("one").addEventListener("close", () => {
  const { image } = opened;
  opened = null;
  [...$("results").querySelectorAll(".result")].find((each) => each.dataset.image === image)?.focus();
});
$("one").addEventListener("click", (event) => { if (event.target === $("one")) $("one").close(); });
addEventListener("popstate", () => go(place(), { push: false }));

let over = 0;
const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => { if (carriesFile(event)) { over++; $("drop").hidden = false; } });
addEventListener("dragleave", (event) => { if (carriesFile(event) && --over <= 0) { over = 0; $("drop").hidden = true; } });
addEventListener("dragover", (event) => { if (carriesFile(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  over = 0;
  $("drop").hidden = true;
  if ($("one").open) $("one").close();
  givePicture(event.dataTransfer.files[0]);
});

function focusResult(k) {
  const all = [...$("results").querySelectorAll(".result")];
  if (!all[k]) return;
  all.forEach((each, j) => { each.tabIndex = j === k ? 0 : -1; });
  all[k].focus();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("one").open) return;
  const typing = event.target.matches("input[type=search], textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("query").select();
    return;
  }
  if (event.key === "Escape") return void document.activeElement.blur();
  const all = [...$("results").querySelectorAll(".result")], k = all.indexOf(event.target.closest(".result"));
  if (!all.length) return;
  if (k < 0) {
    const free = event.target === document.body || (typing && event.key === "ArrowDown");
    if (free && ["ArrowDown", "ArrowRight"].includes(event.key)) { event.preventDefault(); focusResult(0); }
    return;
  }
  const columns = all.filter((each) => each.offsetTop === all[0].offsetTop).length;
  const to = { ArrowLeft: k - 1, ArrowRight: k + 1, ArrowUp: k - columns, ArrowDown: k + columns, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (to >= 0) focusResult(Math.min(to, all.length - 1));
  else if (event.key === "ArrowUp") $("query").focus();
});

go(place(), { push: false });
