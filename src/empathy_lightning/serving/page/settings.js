// What the user chooses; kept in this browser, but for the token, which goes with the tab.

const form = document.querySelector("#settings form");
const dialog = document.getElementById("settings");

/** Fill the form with what was chosen before; `changed` is called with each change. */
export function begin(changed) {
  const kept = JSON.parse(localStorage.getItem("settings") ?? "{}");
  for (const [name, value] of Object.entries(kept)) {
    const field = form.elements[name];
    if (!field) continue;
    if (field.type === "checkbox") field.checked = value;
    else field.value = value;
  }
  form.elements.token.value = sessionStorage.getItem("token") ?? "";
  show();
  form.addEventListener("change", ({ target }) => {
    keep();
    changed(target.name);
  });
  form.addEventListener("input", show);
  document.getElementById("open-settings").addEventListener("click", () => dialog.showModal());
}

export const close = () => dialog.close();
export const token = () => form.elements.token.value.trim();
export const handsFree = () => form.elements.voice_activity.checked;

/** As the server takes them; what is empty is left to it. */
export function options() {
  const { language, seed, temperature, aloud } = form.elements;
  const varied = Number(temperature.value);
  return {
    language: language.value.trim() || null,
    seed: seed.value === "" ? null : Number(seed.value),
    temperature: varied || null,
    aloud: aloud.checked,
  };
}

function show() {
  const varied = Number(form.elements.temperature.value);
  document.getElementById("temperature-words").textContent = varied ? varied.toFixed(1) : "as the server has it";
  document.documentElement.dataset.theme = form.elements.theme.value;
}

function keep() {
  const kept = {};
  for (const field of form.elements) {
    if (field.name && field.name !== "token") kept[field.name] = field.type === "checkbox" ? field.checked : field.value;
  }
  localStorage.setItem("settings", JSON.stringify(kept));
  sessionStorage.setItem("token", token());
}
