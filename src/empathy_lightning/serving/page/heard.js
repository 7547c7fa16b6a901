// What was heard in the voice: emotions as bars, ratings as a path over a plane.

const FIELD = { x: 44, y: 22, width: 256, height: 156 }; // where 0 and 1 lie in the drawing of index.html
const SVG = "http://www.w3.org/2000/svg";

const find = (id) => document.getElementById(id);
const number = (rating) => rating?.toFixed(2) ?? "–";
const percent = (share) => `${Math.round(100 * share)} %`;

/** An element with a text and classes. */
export function element(name, words = "", classes = "") {
  const made = document.createElement(name);
  made.textContent = words;
  made.className = classes;
  return made;
}

/** Show the probabilities of emotions, by name. */
export function showEmotions(probabilities) {
  const list = find("emotions");
  const shares = Object.entries(probabilities);
  const highest = Math.max(...shares.map(([, share]) => share));
  list.replaceChildren(
    ...shares.map(([name, share]) => {
      const item = element("li", "", share === highest && share > 0 ? "likeliest" : "");
      const track = element("div", "", "track");
      const bar = element("div", "", "bar");
      bar.style.width = `${100 * share}%`;
      track.append(bar);
      item.append(element("span", name), track, element("output", percent(share)));
      return item;
    }),
  );
  if (!shares.length) list.append(element("li", "This bot names no emotions.", "none"));
}

export class Plane {
  constructor() {
    this.clear();
  }

  clear() {
    this.turns = [];
    find("plane-words").textContent = "Nothing was heard yet.";
    find("points").replaceChildren();
    find("path").setAttribute("points", "");
    this.showRatings({});
  }

  /** Add what was heard in a turn: ratings in 0..1, or null. */
  add(heard) {
    this.showRatings(heard);
    if (heard.arousal === null || heard.valence === null) return;
    this.turns.push(heard);
    const places = this.turns.map((turn) => this.place(turn));
    find("path").setAttribute("points", places.map(({ x, y }) => `${x},${y}`).join(" "));
    find("points").replaceChildren(...this.turns.map((turn, place) => this.point(turn, place === this.turns.length - 1, places[place])));
    const words = this.turns.map((turn) => `turn ${turn.turn}, valence ${number(turn.valence)}, arousal ${number(turn.arousal)}`);
    find("plane-words").textContent = words.join("; ");
  }

  place({ valence, arousal }) {
    return { x: FIELD.x + valence * FIELD.width, y: FIELD.y + (1 - arousal) * FIELD.height };
  }

  point(turn, latest, { x, y }) {
    const group = document.createElementNS(SVG, "g");
    group.classList.toggle("latest", latest);
    const circle = document.createElementNS(SVG, "circle");
    const name = document.createElementNS(SVG, "text");
    for (const [key, value] of Object.entries({ cx: x, cy: y, r: 7 + 9 * (turn.dominance ?? 0.5) })) {
      circle.setAttribute(key, value);
    }
    name.setAttribute("x", x);
    name.setAttribute("y", y);
    name.textContent = turn.turn;
    group.append(circle, name);
    return group;
  }

  showRatings(heard) {
    find("ratings").replaceChildren(
      ...["arousal", "valence", "dominance"].map((name) => {
        const pair = element("div");
        pair.append(element("dt", name), element("dd", number(heard[name])));
        return pair;
      }),
    );
  }
}
