// Joins the parts: the connection, the microphone, the player, and what is shown.

import { Connection } from "./connection.js";
import { Plane, showEmotions } from "./heard.js";
import { Microphone, samplesOf } from "./microphone.js";
import { Player } from "./player.js";
import * as settings from "./settings.js";
import { Spectrogram } from "./spectrogram.js";
import * as turns from "./turns.js";

const find = (id) => document.getElementById(id);
const WORDS = {
  connecting: "Connecting",
  ready: "Ready",
  listening: "Listening",
  thinking: "Thinking",
  speaking: "Speaking",
};

let facts = { sample_rate: null, emotions: [], voice_activity: ["energy"] };
let rate = 16_000;
let open = []; // turns whose reply has not ended, the oldest first
const numbered = new Map(); // turns by the server's number, as soon as it is known

const yours = new Spectrogram(find("yours"), "your voice");
const theirs = new Spectrogram(find("theirs"), "the reply");
const plane = new Plane();
const player = new Player(show);
const microphone = new Microphone((samples) => {
  connection.say(samples);
  yours.push(samples, rate);
});
settings.begin(changed);
const connection = new Connection({ message: take, sound, lost }, settings.token);

/** Say in one place what happens, and what can be done. */
function show() {
  let state = microphone.on ? "listening" : "ready";
  if (open.length) state = "thinking";
  if (player.playing) state = "speaking";
  if (!connection?.ready) state = "connecting";
  document.body.dataset.state = state;
  if (find("status").textContent !== WORDS[state]) find("status").textContent = WORDS[state];
  find("interrupt").disabled = !open.length && !player.playing;
  find("microphone").disabled = find("file-button").disabled = state === "connecting";
  find("microphone").setAttribute("aria-pressed", microphone.on);
  find("microphone-words").textContent = microphone.on ? (settings.handsFree() ? "Stop" : "Send") : "Speak";
}

function complain(words = "") {
  find("error").textContent = words;
}

function tellSettings(hears) {
  const activity = hears && facts.voice_activity.at(-1);
  connection.tell("settings", { ...settings.options(), sample_rate: rate, voice_activity: activity });
}

function changed(name) {
  if (name === "token") connection.reopen();
  else if (name !== "theme") tellSettings(microphone.on && settings.handsFree());
  theirs.draw();
  yours.draw();
  show();
}

function lost(reason) {
  microphone.stop();
  open.forEach((turn) => turn.end({}));
  open = [];
  complain(reason);
  show();
}

/** What the server says. */
function take(told) {
  const does = {
    ready() {
      facts = told;
      find("name").textContent = document.title = told.name;
      showEmotions(Object.fromEntries(told.emotions.map((name) => [name, 0])));
      complain();
      tellSettings(false);
      // The history went with the old connection.
      forgotten();
    },
    speech_began() {
      player.stop();
      yours.clear();
    },
    speech_ended: asked,
    heard() {
      player.begin();
      theirs.clear();
      const turn = unnumbered() ?? asked();
      numbered.set(told.turn, turn);
      turn.heard(told);
      showEmotions(told.probabilities);
      plane.add(told);
    },
    text: () => numbered.get(told.turn)?.add(told.text),
    reply: () => ended(told),
    interrupted() {
      player.stop();
      ended({ ...told, interrupted: true });
    },
    error() {
      complain(told.retry_after ? `${told.message} (in about ${told.retry_after} s)` : told.message);
      const refused = unnumbered();
      refused?.drop();
      open = open.filter((other) => other !== refused);
    },
  };
  does[told.type]?.();
  show();
}

function sound(samples) {
  player.push(samples, facts.sample_rate);
  theirs.push(samples, facts.sample_rate);
  show();
}

/** A question is on its way. */
function asked() {
  complain();
  const turn = new turns.Turn();
  open.push(turn);
  show();
  return turn;
}

/** The oldest turn of which the server has not spoken as yet. */
function unnumbered() {
  const known = [...numbered.values()];
  return open.find((turn) => !known.includes(turn));
}

function ended(told) {
  const turn = numbered.get(told.turn) ?? unnumbered();
  turn?.end(told);
  open = open.filter((other) => other !== turn);
}

function forgotten() {
  player.stop();
  plane.clear();
  yours.clear();
  theirs.clear();
  turns.clear();
  numbered.clear();
  open = [];
}

async function listen() {
  complain();
  player.unlock();
  if (microphone.on) {
    microphone.stop();
    if (!settings.handsFree()) send();
    show();
    return;
  }
  try {
    rate = await microphone.start();
    yours.clear();
    tellSettings(settings.handsFree());
  } catch (error) {
    microphone.stop();
    complain(`The microphone cannot be used: ${error.message}`);
  }
  show();
}

async function sendFile(file) {
  complain();
  player.unlock();
  microphone.stop();
  try {
    const recording = await samplesOf(file);
    rate = recording.rate;
    tellSettings(false);
    yours.clear();
    yours.push(recording.samples, rate);
    connection.say(recording.samples);
    send();
  } catch {
    complain(`${file.name} is no sound that this browser can read`);
  }
  show();
}

function send() {
  asked();
  connection.tell("commit");
}

/** Barge in: what was not heard was not said. */
function interrupt() {
  if (find("interrupt").disabled) return;
  const { played } = player;
  player.stop();
  connection.tell("interrupt", { played });
  show();
}

find("microphone").addEventListener("click", listen);
find("interrupt").addEventListener("click", interrupt);
find("file-button").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", ({ target }) => {
  if (target.files.length) sendFile(target.files[0]);
  target.value = "";
});
find("forget").addEventListener("click", () => {
  connection.tell("forget");
  forgotten();
  settings.close();
  show();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("dialog, input, select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "Escape") interrupt();
  if (event.key.toLowerCase() === "m" && !find("microphone").disabled) listen();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [yours, theirs].forEach((s) => s.draw()));
show();
