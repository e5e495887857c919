// The page of `limbeck serve`: an image and a shift go to the server, each model's answer comes back as a line.

const PAUSE = 120; // ms without a change before the models are evaluated
const SMALL = 128; // px: smaller pictures are shown pixel by pixel
const DRAWN = 96; // px: pictures of up to this side are seen whole
const FILMED = 480; // px: the height of the camera's pictures
const REST = 150; // ms from the models' predictions to the camera's next picture

const $ = (id) => document.getElementById(id);
const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

const about = await (await fetch("about")).json();
const cards = about.voices.map(card);
const reset = []; // put a slider where it does nothing
let given = null; // a Blob, or the number of a held-out image
let stream = null; // of the camera, while it is on
let draw = 0; // which background and noise
let running = null; // the AbortController of the question that is open
let timer = 0;

// ---- asking

function ask() {
  running?.abort(); // what it would still show is of another image
  wait(true);
  clearTimeout(timer);
  timer = setTimeout(() => question().catch(failed), PAUSE);
}

function wait(waiting) {
  for (const { element } of cards) element.classList.toggle("waiting", waiting);
}

async function question() {
  if (given === null) return wait(false);
  const mine = (running = new AbortController());
  const words = new URLSearchParams({ draw });
  for (const input of document.querySelectorAll(".slider input")) words.set(input.name, input.value);
  const blob = given instanceof Blob;
  if (!blob) words.set("sample", given);
  if (blob && given.size > about.largest_bytes) throw new Error(`the image has more than ${about.largest_bytes.toLocaleString("en")} bytes; make it smaller`);
  const reply = await fetch(`answers?${words}`, { method: "POST", body: blob ? given : null, signal: mine.signal });
  if (!reply.ok) throw new Error(await sentence(reply));
  say("");
  let label = "";
  for await (const line of lines(reply.body)) {
    if (mine.signal.aborted) return;
    if ("voice" in line) cards[line.voice].show(line, label);
    else label = showPicture(line);
  }
}

async function sentence(reply) {
  try {
    return (await reply.json()).error;
  } catch {
    return `the server answered ${reply.status} ${reply.statusText}`;
  }
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

function failed(error) {
  if (error.name === "AbortError") return;
  wait(false);
  const gone = error instanceof TypeError; // what fetch throws where no server responds
  say(gone ? "the server does not respond; is limbeck serve still running?" : error.message, true);
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

// ---- showing

function card({ name, kind, detail, rows }) {
  const element = make("article", "card waiting");
  const title = make("h2", "", short(name));
  title.title = name;
  const answer = make("div", "answer");
  answer.style.setProperty("--rows", rows);
  element.append(title, make("p", "", kind), make("p", "detail", detail), answer);
  $("voices").append(element);

  function show({ error, top, milliseconds }, label) {
    element.className = "card";
    if (error) return answer.replaceChildren(make("p", "bad", error));
    const verdict = label && (top[0].class === label ? "right" : "wrong");
    element.className = `card ${verdict}`;
    const list = make("ol", "");
    list.append(...top.map(row));
    const time = make("p", "time", verdict ? `${duration(milliseconds)}, ` : duration(milliseconds));
    time.append(make("span", "mark", verdict));
    answer.replaceChildren(list, time);
  }
  return { element, show };
}

// The last part of a path, where no other model's is the same.
function short(name) {
  const last = (path) => path.replace(/\/+$/, "").split("/").pop();
  return about.voices.filter((voice) => last(voice.name) === last(name)).length > 1 ? name : last(name);
}

function row({ class: name, meaning, probability }) {
  const item = make("li", "");
  const bar = make("div", "bar");
  const filled = make("div", "");
  filled.style.width = `${100 * probability}%`;
  bar.append(filled);
  item.append(make("span", "", meaning || name), make("span", "", `${(100 * probability).toFixed(1)}%`), bar);
  return item;
}

const duration = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en")} ms`;

function showPicture({ label, name, given: thumbnail, seen }) {
  show($("seen"), seen);
  if ($("canvas").hidden && !stream) {
    show($("given"), thumbnail);
    const shown = label ? `${label} (${name})` : name;
    $("caption").textContent = shown || given.name || "Your image";
  }
  return label;
}

function show(image, source) {
  image.onload = () => image.classList.toggle("small", image.naturalWidth < SMALL);
  image.src = source;
  image.hidden = false;
}

// ---- giving

function give(what) {
  stopFilming();
  for (const back of reset) back();
  given = what;
  draw = Math.floor(Math.random() * 1e6);
  $("canvas").hidden = true;
  $("hint").hidden = true;
  ask();
}

function giveFile(file) {
  if (file) give(file);
}

$("file").onchange = () => {
  giveFile($("file").files[0]);
  $("file").value = ""; // so that the same file can be chosen again
};
document.addEventListener("paste", (event) => giveFile(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("stage").classList.add("drop");
});
document.addEventListener("dragleave", () => $("stage").classList.remove("drop"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("drop");
  giveFile(event.dataTransfer.files[0]);
});

// ---- the camera, where the browser has one and this page may use it

async function film() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", height: FILMED } });
  } catch (error) {
    return say(`the camera can't be used: ${error.message}`, true);
  }
  for (const back of reset) back();
  $("film").srcObject = stream;
  await $("film").play();
  $("canvas").hidden = $("hint").hidden = $("given").hidden = true;
  $("film").hidden = false;
  $("camera").textContent = "Stop camera";
  $("caption").textContent = "Camera";
  while (stream) {
    const picture = await frame($("film"));
    if (!stream) return;
    given = picture;
    await question().catch(failed);
    await new Promise((rested) => setTimeout(rested, REST));
  }
}

function frame(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

function stopFilming() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("film").hidden = true;
  $("film").srcObject = null;
  $("camera").textContent = "Camera";
}

if (navigator.mediaDevices?.getUserMedia) {
  $("camera").hidden = false;
  $("camera").onclick = () => {
    if (!stream) return film();
    stopFilming();
    ask(); // the last picture stays
  };
}

// ---- drawing: white on black, like the digits

if (about.drawing) {
  const canvas = $("canvas");
  const side = about.drawing * Math.max(1, Math.floor(DRAWN / about.drawing));
  const pen = canvas.getContext("2d");
  let last = null;

  function clear() {
    canvas.width = canvas.height = side; // wipes it
    Object.assign(pen, { lineWidth: side / 11, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
    pen.fillRect(0, 0, side, side);
    canvas.hidden = $("hint").hidden = false;
    $("given").hidden = true;
    $("hint").textContent = "Draw here, large, or drop an image";
    $("caption").textContent = "Your drawing";
    given = null;
    stopFilming();
    for (const back of reset) back();
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * side, ((event.clientY - box.top) / box.height) * side];
  }

  function stroke(event) {
    const [x, y] = at(event);
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(x, y);
    pen.stroke();
    last = [x, y];
    wait(true);
    canvas.toBlob((blob) => {
      if (canvas.hidden) return;
      given = blob;
      ask();
    });
  }

  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    $("hint").hidden = true;
    last = at(event);
    stroke(event);
  };
  canvas.onpointermove = (event) => last && stroke(event);
  canvas.onpointerup = canvas.onpointercancel = () => (last = null);
  $("draw").hidden = false;
  $("draw").onclick = clear;
  $("lead").textContent = "Draw, drop, paste or choose an image. Every model classifies it.";
}

// ---- the shift

for (const [name, { low, high, neutral }] of Object.entries(about.sliders)) {
  const label = make("label", "slider");
  const input = Object.assign(document.createElement("input"), { type: "range", name, min: low, max: high, step: (high - low) / 100 });
  const output = make("output", "");
  const update = () => (output.textContent = Number(input.value).toFixed(2));
  label.append(make("span", "", name), input, output);
  $("again").before(label);
  input.oninput = () => {
    update();
    ask();
  };
  reset.push(() => {
    input.value = neutral;
    update();
  });
  reset.at(-1)();
}
$("again").onclick = () => {
  for (const back of reset) back();
  ask();
};
$("notes").append(...about.notes.map((note) => make("li", "", note)));

// ---- held-out images: the page opens with one

if (about.samples) {
  $("sample").hidden = false;
  $("sample").title = `A random image of ${about.data}`;
  $("sample").onclick = () => give(Math.floor(Math.random() * about.samples));
  $("sample").click();
} else if (about.drawing) {
  $("draw").click();
}
