/* The page of cmif-gateway: a conversation, and beside each message what left of it.
 *
 * Originals are in this page's memory only; nothing but the theme is kept. Text is put in as text, never as HTML. */
"use strict";
const $ = id => document.getElementById(id);
const encoder = new TextEncoder(), decoder = new TextDecoder();
const MADE = {surrogate: "a made-up one", channel: "drawn from the channel"};
let messages = [], key = "", guarantee = "", running = null, tipped = null;

const make = (tag, classes, parent, text = "") => {
  const node = document.createElement(tag);
  node.className = classes;
  node.textContent = text;
  parent?.append(node);
  return node;
};
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const number = x => String(Math.round(x * 100) / 100);
const headers = more => ({...more, ...(key && {Authorization: `Bearer ${key}`})});

async function sentenceOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return response.status === 413 ? "this message is too long for the gateway" : `the gateway answered ${response.status}`;
  }
}

/* ---- what the gateway says of itself ---- */

function showBudget(spent, budget) {
  $("spent").hidden = budget === null;
  if (budget !== null) {
    $("spent").max = budget || 1;
    $("spent").value = budget ? spent : 1;
  }
  $("left").textContent = budget === null ? `ε ${number(spent)} spent today, no limit set` : `ε ${number(spent)} of ${number(budget)} spent today`;
}

async function refresh() {
  let response;
  try {
    response = await fetch("/status", {headers: headers()});
  } catch {
    $("state").className = "state down";
    $("state").textContent = "gateway not reached";
    return;
  }
  $("key-form").hidden = response.status !== 401;
  $("form").hidden = response.status === 401;
  if (!response.ok) {
    if (response.status === 401) {
      $("key").focus();
    }
    $("state").className = "state down";
    $("state").textContent = response.status === 401 ? "key needed" : await sentenceOf(response);
    return;
  }
  const status = await response.json(), chosen = $("model").value;
  guarantee = status.guarantee;
  $("policy").textContent = status.policy;
  $("guarantee").textContent = guarantee;
  $("budget").hidden = $("promise").hidden = false;
  $("receipts").hidden = !status.receipts;
  $("model").replaceChildren(...status.upstreams.map(u => new Option(u.model, u.model, false, u.model === chosen)));
  showState(status.upstreams);
  $("model").onchange = () => showState(status.upstreams);
  showBudget(status.today.epsilon, status.today.budget);
}

function showState(upstreams) {
  const u = upstreams.find(one => one.model === $("model").value);
  $("state").className = `state ${u?.ready ? "ready" : "down"}`;
  $("state").textContent = u ? (u.ready ? "ready" : "not ready") : "no model";
  $("state").title = u?.says || "";
  $("server").hidden = !u;
  $("server").textContent = u ? `${u.model} is ${u.kind === "cmif" ? "a server of CMIF" : "an OpenAI-compatible server, of which nothing is attested"}${u.says ? `: ${u.says}` : "."}` : "";
}

/* ---- what left ---- */

function hideTip() {
  $("tip").hidden = true;
  tipped?.forEach(node => node.classList.remove("lit"));
  tipped = null;
}

function showTip(node, pair, lines) {
  hideTip();
  tipped = pair;
  pair.forEach(one => one.classList.add("lit"));
  const tip = $("tip");
  tip.replaceChildren();
  lines.forEach((line, i) => make(i ? "span" : "b", "", tip, line));
  tip.hidden = false;
  const at = node.getBoundingClientRect(), size = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  tip.style.top = `${at.bottom + size.height + 8 < innerHeight ? at.bottom + 6 : Math.max(8, at.top - size.height - 6)}px`;
}

/* The text with the pieces [from, size] as marks, which are returned; positions are bytes of UTF-8. */
function putMarked(node, text, pieces) {
  const bytes = encoder.encode(text), marks = [];
  let at = 0;
  node.replaceChildren();
  for (const [from, size, action] of pieces) {
    node.append(decoder.decode(bytes.slice(at, from)));
    const mark = make("mark", action, node, decoder.decode(bytes.slice(from, from + size)));
    mark.tabIndex = 0;
    marks.push(mark);
    at = from + size;
  }
  node.append(decoder.decode(bytes.slice(at)));
  return marks;
}

function showLeft(turn, left) {
  const mine = (left || []).filter(one => one.role === "user").pop();
  if (!mine) {
    return;
  }
  const spans = mine.spans.slice().sort((a, b) => a[0] - b[0]);
  const went = putMarked(turn.went, mine.text, spans.map(s => [s[0], s[1], s[3]]));
  const own = putMarked(turn.said, turn.text, spans.map(s => [s[4], s[5], s[3]]));
  spans.forEach((span, i) => {
    const lines = [`${span[2]}: ${MADE[span[3]] || span[3]}`, `“${own[i].textContent}” left as “${went[i].textContent}”`, guarantee];
    for (const node of [own[i], went[i]]) {
      node.setAttribute("aria-label", `${node.textContent} (${lines[0]})`);
      node.onpointerenter = node.onfocus = () => showTip(node, [own[i], went[i]], lines);
      node.onpointerleave = node.onblur = hideTip;
    }
  });
  const counts = {};
  spans.forEach(span => { counts[span[2]] = (counts[span[2]] || 0) + 1; });
  turn.leftNote.textContent = spans.length ? `replaced: ${Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(", ")}` : "nothing was replaced";
}

function showBooks(turn, books) {
  if (books.left) {
    showLeft(turn, books.left);
  }
  if (books.epsilon === undefined) {
    return;
  }
  const parts = [books.draws ? `${plural(books.draws, "draw")}, ε ${number(books.epsilon)}` : "ε 0"];
  if (books.receipt !== null) {
    parts.push(`receipt ${books.receipt}`);
  }
  turn.note.textContent = parts.join(" · ");
}

/* ---- a turn ---- */

function newTurn(text) {
  const node = make("article", "turn", $("log")), turn = {text, node};
  const said = make("div", "said", node), went = make("div", "went", node);
  make("span", "who", said, "You, on this machine");
  turn.said = make("div", "words", said, text);
  make("span", "who", went, "What left");
  turn.went = make("div", "words", went, "…");
  turn.leftNote = make("div", "note", went);
  turn.answerBox = make("div", "answer waits", node);
  make("span", "who", turn.answerBox, "Answer");
  turn.answer = make("div", "words", turn.answerBox);
  turn.answer.setAttribute("aria-live", "polite");
  turn.note = make("div", "note", turn.answerBox);
  return turn;
}

function follow() {
  $("log").scrollTop = $("log").scrollHeight;
}

async function* eventsOf(response) {
  const reader = response.body.getReader(), streaming = new TextDecoder();
  let held = "";
  for (;;) {
    const {value, done} = await reader.read();
    held += done ? "" : streaming.decode(value, {stream: true});
    for (let end; (end = held.indexOf("\n\n")) >= 0; held = held.slice(end + 2)) {
      if (held.startsWith("data: ")) {
        yield held.slice(6, end);
      }
    }
    if (done) {
      return;
    }
  }
}

async function answer(turn, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST", signal, headers: headers({"Content-Type": "application/json", "X-CMIF-Show": "left"}),
    body: JSON.stringify({model: $("model").value, messages, stream: true}),
  });
  if (!response.ok) {
    const error = new Error(await sentenceOf(response));
    error.kept = response.status < 500;
    throw error;
  }
  let text = "", whole = false;
  for await (const data of eventsOf(response)) {
    if (data === "[DONE]") {
      whole = true;
      break;
    }
    const event = JSON.parse(data), bottom = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 80;
    if (event.error) {
      throw new Error(event.error.message);
    }
    text += event.choices?.[0]?.delta?.content || event.choices?.[0]?.delta?.refusal || "";
    turn.answer.textContent = text;
    if (event.cmif) {
      showBooks(turn, event.cmif);
    }
    if (bottom) {
      follow();
    }
  }
  if (!whole) {
    throw new Error("the answer broke off");
  }
  messages.push({role: "assistant", content: text});
}

async function send(text) {
  $("intro").hidden = true;
  messages.push({role: "user", content: text});
  const turn = newTurn(text);
  running = new AbortController();
  $("send").textContent = "Stop";
  follow();
  try {
    await answer(turn, running.signal);
  } catch (error) {
    messages.pop();
    const stopped = error.name === "AbortError";
    if (turn.went.textContent === "…") {
      turn.went.textContent = error.kept ? "Nothing left." : "What may have left was sanitized.";
    }
    make("div", stopped ? "note" : "wrong", turn.answerBox, stopped ? "Stopped. It is not part of the conversation." : error.message);
    $("text").value = $("text").value || text;
    grow();
  }
  turn.answerBox.classList.remove("waits");
  running = null;
  $("send").textContent = "Send";
  refresh();
  follow();
}

function begin() {
  running?.abort();
  hideTip();
  messages = [];
  document.querySelectorAll(".turn").forEach(node => node.remove());
  $("intro").hidden = false;
  $("text").focus();
}

/* ---- hands ---- */

function grow() {
  const box = $("text");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

const themes = ["auto", "light", "dark"];
function setTheme(name) {
  const theme = themes.includes(name) ? name : "auto";
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = {auto: "Auto", light: "Light", dark: "Dark"}[theme];
  $("theme").setAttribute("aria-label", `Colours: ${theme}`);
  localStorage.setItem("theme", theme);
}

$("form").onsubmit = event => {
  event.preventDefault();
  if (running) {
    running.abort();
    return;
  }
  const text = $("text").value;
  if (text.trim()) {
    $("text").value = "";
    grow();
    send(text);
  }
};
$("text").onkeydown = event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!running) {
      $("form").requestSubmit();
    }
  }
};
$("text").oninput = grow;
$("key-form").onsubmit = event => {
  event.preventDefault();
  key = $("key").value;
  $("key").value = "";
  refresh().then(() => $("text").focus());
};
$("new").onclick = begin;
$("theme").onclick = () => setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % 3]);
document.onkeydown = event => {
  if (event.key === "Escape") {
    hideTip();
    running?.abort();
  } else if (event.altKey && event.code === "KeyN") {
    event.preventDefault();
    begin();
  }
};
$("log").onscroll = hideTip;
setTheme(localStorage.getItem("theme"));
refresh();
$("text").focus();
