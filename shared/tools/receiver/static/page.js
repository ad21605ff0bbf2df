// Keeps a page up to date: the server says that it has changed, the page fetches itself and takes over what is new.
// Everything can be read without it.
"use strict";

const main = document.getElementById("main");
const area = document.getElementById("live") ?? main;
const liveSwitch = document.getElementById("live-switch");

let stream = null;
let isOn = true;
let isPressed = false;
let isFetching = false;
let isStale = false;
let retry = 0;

function connect() {
  disconnect();
  if (!isOn || document.hidden) return;
  stream = new EventSource(`${main.dataset.live}?seen=${encodeURIComponent(main.dataset.version)}`);
  stream.onopen = () => show("live", "Live");
  stream.onmessage = refresh;
  stream.onerror = () => {
    show("lost", "Connecting");
    // A refusal (too many live pages) closes the stream for good; a lost connection comes back by itself.
    if (stream.readyState === EventSource.CLOSED) retry = setTimeout(connect, 5000);
  };
}

function disconnect() {
  clearTimeout(retry);
  stream?.close();
  stream = null;
}

function show(state, label) {
  liveSwitch.dataset.state = state;
  liveSwitch.textContent = label;
  liveSwitch.setAttribute("aria-pressed", String(isOn));
}

async function refresh() {
  isStale = true;
  if (isFetching || !isOn) return;
  // Swapping between press and release would lose the click, and a selection would be gone.
  if (isPressed || hasSelection()) return void setTimeout(refresh, 300);
  isFetching = true;
  isStale = false;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(area.id);
    if (fresh && isOn && !isPressed) {
      swap(fresh);
      main.dataset.version = page.getElementById("main").dataset.version;
      document.title = page.title;
    } else {
      isStale = true;
    }
  } catch {
    show("lost", "Connecting");
  }
  isFetching = false;
  if (isStale) setTimeout(refresh, 500);
}

function hasSelection() {
  const selection = getSelection();
  return !selection.isCollapsed && area.contains(selection.anchorNode);
}

function swap(fresh) {
  const open = [...area.querySelectorAll("details[open]")].map(addressOf);
  const folded = [...area.querySelectorAll('.fold[aria-expanded="false"]')].map(addressOf);
  const focused = area.contains(document.activeElement) && document.activeElement !== area;
  const focus = focused ? addressOf(document.activeElement) : null;
  const known = new Set([...area.querySelectorAll("[id]")].map((element) => element.id));

  area.replaceChildren(...document.adoptNode(fresh).childNodes);

  enliven();
  for (const address of folded) {
    const button = find(address);
    if (button) fold(button);
  }
  for (const address of open) find(address)?.setAttribute("open", "");
  if (focus) find(focus)?.focus({ preventScroll: true });
  if (known.size > 0) {
    for (const element of area.querySelectorAll("tr[id], li[id]")) {
      if (!known.has(element.id)) element.classList.add("new");
    }
  }
  markTarget();
}

// An element is found again by the nearest id around it and its place among its like there.
function addressOf(element) {
  const owner = element.parentElement.closest("[id]");
  return [owner.id, element.localName, [...owner.querySelectorAll(element.localName)].indexOf(element)];
}

function find([id, name, place]) {
  return document.getElementById(id)?.querySelectorAll(name)[place];
}

// An address that somebody has typed may hold anything.
function named(hash) {
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash;
  }
}

// A swapped element is no `:target` any more, and the details of a span that a link leads to should be open.
function markTarget() {
  for (const element of document.querySelectorAll(".target")) element.classList.remove("target");
  const target = location.hash ? document.getElementById(named(location.hash.slice(1))) : null;
  target?.classList.add("target");
  return target;
}

function openTarget() {
  const target = markTarget();
  if (!target?.matches("li.span")) return;
  const details = target.querySelector("details");
  details.open = true;
  details.querySelector("summary").focus({ preventScroll: true });
  target.scrollIntoView({ block: "nearest" });
}

function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const steps = [...document.querySelectorAll("summary.row, a.to-trace")];
  const place = steps.indexOf(document.activeElement);
  if (place < 0) return;
  event.preventDefault();
  steps[place + step]?.focus();
}

document.addEventListener("keydown", moveFocus);
addEventListener("hashchange", openTarget);
openTarget();
enliven();

// What does nothing without script is shown by it, on a swapped page again.
function enliven() {
  for (const button of document.querySelectorAll("button.copy, button.fold")) button.hidden = false;
  const chooser = document.getElementById("open-file");
  if (chooser) chooser.hidden = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches(".copy")) copy(button);
  if (button?.matches(".fold")) fold(button);
});

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

// The rows of a tree are a flat list: those below one are the next ones that are deeper.
function fold(button) {
  const row = button.closest("li");
  const isOpen = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!isOpen));
  const level = Number(row.getAttribute("aria-level"));
  let closedAt = Infinity;
  for (let next = row.nextElementSibling; next && Number(next.getAttribute("aria-level")) > level; next = next.nextElementSibling) {
    const depth = Number(next.getAttribute("aria-level"));
    if (depth <= closedAt) closedAt = Infinity;
    next.hidden = isOpen || depth > closedAt;
    if (!next.hidden && next.querySelector(":scope > .fold")?.getAttribute("aria-expanded") === "false") closedAt = depth;
  }
}

async function openFile(file) {
  const answer = await fetch("/open", { method: "POST", body: file, headers: { accept: "application/json" } });
  const said = await answer.json();
  if (answer.ok) location.assign(said.trace);
  else alert(said.detail);
}

document.getElementById("file")?.addEventListener("change", (event) => event.target.files[0] && openFile(event.target.files[0]));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
});

if (main.dataset.live) {
  liveSwitch.hidden = false;
  liveSwitch.addEventListener("click", () => {
    isOn = !isOn;
    if (isOn) connect();
    else disconnect();
    show(isOn ? "live" : "off", isOn ? "Live" : "Paused");
  });
  addEventListener("pointerdown", () => (isPressed = true));
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(() => (isPressed = false)));
  // A browser allows six connections to one server: only the page in front keeps one.
  document.addEventListener("visibilitychange", connect);
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => event.persisted && connect());
  connect();
}
