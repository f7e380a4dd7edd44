// A report works without this script; with it, words show where they look, and lists can be filtered. Whatever comes from
// captions, ids and names is put on the page as text, never as markup.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const layer = document.getElementById("layer");

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// ---- where a word looks

// The strongest regions of a word, [region, weight, strength], strongest first; word null: the strongest of all words.
function strongest(weights, word) {
  const low = layer.value.startsWith("entropy");
  const best = new Map();
  for (const row of word === null ? weights : [weights[word] ?? []])
    for (const [region, weight] of row) {
      const strength = low ? 1 - weight : weight;
      if (!best.has(region) || strength > best.get(region)[1]) best.set(region, [weight, strength]);
    }
  const order = [...best].map(([region, [weight, strength]]) => [region, weight, strength]);
  order.sort((a, b) => b[2] - a[2]); // rounded weights may be equal: then in the order of the data
  return order.slice(0, Math.max(3, ...weights.map((row) => row.length)));
}

function draw(shot, shown, word, mask) {
  const frame = shot.querySelector(".boxes"), named = shot.querySelector(".named");
  if (!frame) return;
  frame.replaceChildren();
  named.hidden = true;
  const weights = layer?.value ? shown.layers?.[layer.value] : null;
  const { boxes, names } = data.regions[shown.image] ?? { boxes: [] };
  if (!weights || !boxes.length) return;
  const found = strongest(weights, word), lit = found.slice(0, 3);
  if (!lit.length) return;
  // What no strong region covers is dimmed.
  const holes = svg("mask", { id: mask });
  holes.append(svg("rect", { width: 1000, height: 1000, fill: "#fff" }));
  // A region is as bright as its weight beside the strongest one.
  const share = (strength) => Math.max(0, strength) / Math.max(lit[0][2], 1e-9);
  const place = ([x1, y1, x2, y2]) => ({ x: x1, y: y1, width: Math.max(1, x2 - x1), height: Math.max(1, y2 - y1) });
  for (const [region, , strength] of [...found].reverse())
    holes.append(svg("rect", { ...place(boxes[region]), fill: "#000", "fill-opacity": share(strength).toFixed(2) }));
  frame.append(holes, svg("rect", { class: "dim", width: 1000, height: 1000, mask: `url(#${mask})` }));
  [...lit].reverse().forEach(([region, , strength]) => {
    const best = region === lit[0][0] ? " best" : "", opacity = Math.max(0.3, share(strength)).toFixed(2);
    frame.append(svg("rect", { ...place(boxes[region]), class: `halo${best}`, opacity }),
      svg("rect", { ...place(boxes[region]), class: `lit${best}`, opacity }));
  });
  const [region, weight] = lit[0];
  named.textContent = `${region} ${names[region]} ${weight.toFixed(2)}`.replace("  ", " ");
  named.hidden = false;
}

function show(card) {
  const query = data.queries[card.dataset.side][card.dataset.query];
  const chips = [...card.querySelectorAll(".chip")];
  const pressed = chips.findIndex((chip) => chip.getAttribute("aria-pressed") === "true");
  for (const shot of card.querySelectorAll(".shots .shot")) {
    if (!shot.querySelector(".boxes")) continue;
    const { place } = shot.dataset;
    draw(shot, query.shown[place], pressed < 0 ? null : pressed, `m-${card.dataset.query}-${place}`);
  }
}

const cards = [...document.querySelectorAll(".card[data-side]")];
for (const card of cards) {
  const chips = [...card.querySelectorAll(".chip")];
  if (!chips.length) continue;
  for (const chip of chips)
    chip.addEventListener("click", () => {
      const was = chip.getAttribute("aria-pressed") === "true";
      for (const other of chips) other.setAttribute("aria-pressed", String(other === chip && !was));
      show(card);
    });
  // At first the word without which the score falls most.
  const words = data.queries[card.dataset.side][card.dataset.query].words;
  const most = words.reduce((best, word, k) => (word.importance > words[best].importance ? k : best), 0);
  if (layer) chips[most]?.setAttribute("aria-pressed", "true");
  show(card);
}
layer?.addEventListener("change", () => cards.forEach(show));

// ---- which queries are shown

const fits = {
  "": () => true,
  gain: ({ rank, baseline }) => rank === 1 && baseline > 1,
  loss: ({ rank, baseline }) => rank > 1 && baseline === 1,
  wrong: ({ rank, baseline }) => rank > 1 && baseline !== 1,
  right: ({ rank, baseline }) => rank === 1 && (baseline === null || baseline === 1),
};

for (const filter of document.querySelectorAll(".filter"))
  filter.addEventListener("change", () => {
    const mine = cards.filter((card) => card.dataset.side === filter.dataset.side);
    for (const card of mine)
      card.hidden = !fits[filter.value](data.queries[card.dataset.side][card.dataset.query]);
    const left = mine.filter((card) => !card.hidden).length;
    document.querySelector(`.count[data-side=${filter.dataset.side}]`).textContent = `${left} of ${mine.length} shown`;
  });

// Pictures beside the page are loaded as they come into view; a printer wants them all.
addEventListener("beforeprint", () => { for (const image of document.images) image.loading = "eager"; });
