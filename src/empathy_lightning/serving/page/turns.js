// The conversation as it is read: a turn holds what was heard and the words of the reply.

import { element } from "./heard.js";

const list = document.getElementById("turns");
const welcome = document.getElementById("welcome");

export class Turn {
  constructor() {
    welcome.hidden = true;
    this.item = element("li");
    this.said = element("p", "You spoke", "said");
    this.reply = element("p", "", "replied waiting");
    this.facts = element("p", "", "facts");
    // A screen reader reads the reply once, when it is whole.
    this.reply.setAttribute("aria-busy", "true");
    this.reply.setAttribute("aria-live", "polite");
    this.item.append(this.said, this.reply, this.facts);
    list.append(this.item);
    this.follow();
  }

  follow() {
    this.facts.scrollIntoView({ block: "nearest" });
  }

  heard({ emotion, probabilities }) {
    this.said.textContent = emotion ? "You sounded " : "You spoke";
    if (emotion) this.said.append(element("strong", `${emotion}, ${Math.round(100 * probabilities[emotion])} %`));
  }

  add(text) {
    this.reply.append(text);
    this.follow();
  }

  /** The reply is whole, or was interrupted after what was said of it. */
  end({ text, said, interrupted, timings, fault, cut }) {
    this.reply.classList.remove("waiting");
    if (interrupted && said !== undefined) {
      const whole = text ?? this.reply.textContent;
      this.reply.replaceChildren(said, element("span", whole.slice(said.length), "unsaid"));
    }
    this.reply.setAttribute("aria-busy", "false");
    // A whole reply whose sound is interrupted ends twice; the second time nothing is told of its times.
    this.timings = timings ?? this.timings;
    const facts = [];
    if (this.timings?.first_text) facts.push(`first word ${this.timings.first_text.toFixed(2)} s`);
    if (this.timings?.first_audio) facts.push(`first sound ${this.timings.first_audio.toFixed(2)} s`);
    if (interrupted) facts.push("interrupted");
    if (cut) facts.push("cut at its longest length");
    if (fault) facts.push(fault);
    if (facts.length) this.facts.textContent = facts.join(" · ");
    this.follow();
  }

  /** The question was refused. */
  drop() {
    this.item.remove();
    welcome.hidden = list.children.length > 0;
  }
}

export function clear() {
  list.replaceChildren();
  welcome.hidden = false;
}
