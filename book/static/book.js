// Formulas that are wider than the screen scroll in their own box: let the keyboard reach those.
function reach() {
  for (const formula of document.querySelectorAll("mjx-container[display]")) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}

addEventListener("resize", reach);
addEventListener("load", reach);

// The buttons of hidden solutions are all called "Toggle hidden content": name them, and say which are open.
function nameButtons() {
  for (const button of document.querySelectorAll(".admonition.dropdown .toggle-button")) {
    const box = button.closest(".admonition");
    const tell = () => button.setAttribute("aria-expanded", String(!box.classList.contains("toggle-hidden")));
    const title = box.querySelector(".admonition-title").textContent.trim();
    button.setAttribute("aria-label", `Show or hide: ${title}`);
    new MutationObserver(tell).observe(box, { attributeFilter: ["class"] });
    tell();
  }
}

addEventListener("load", nameButtons);

// A link to an equation, a figure, a theorem, a term or a reference shows what it leads to while the pointer or
// the focus is on it.  The card stays while the pointer is on it, and Escape closes it.
const card = document.createElement("div");
card.className = "preview";
card.hidden = true;
card.setAttribute("aria-hidden", "true"); // the link itself leads to the same text
let timer = 0;
const pages = new Map();

async function page(address) {
  if (address.pathname === location.pathname) return document;
  if (!pages.has(address.pathname)) {
    const text = fetch(address.pathname).then((answer) => (answer.ok ? answer.text() : ""));
    pages.set(address.pathname, text.then((html) => new DOMParser().parseFromString(html, "text/html")));
  }
  return pages.get(address.pathname);
}

function content(target) {
  if (!target) return null;
  if (target.matches("dt")) return target.nextElementSibling; // a term: its meaning
  if (target.matches("h1, section")) return null; // a whole chapter or section: the link says enough
  return target.closest("figure, div.math, div.admonition, div.citation, tr") ?? null;
}

async function show(link) {
  const address = new URL(link.href);
  const whole = await page(address).catch(() => null); // from a file, a browser reads no other page
  const found = content(whole?.getElementById(decodeURIComponent(address.hash.slice(1))));
  if (!found || !link.matches(":hover, :focus-visible")) return;
  const copy = found.cloneNode(true);
  for (const inner of [copy, ...copy.querySelectorAll("[id]")]) inner.removeAttribute("id");
  for (const useless of copy.querySelectorAll(".headerlink, .picture-links, button")) useless.remove();
  for (const inner of copy.querySelectorAll("a, [tabindex]")) inner.tabIndex = -1;
  for (const picture of copy.querySelectorAll("[src]")) picture.src = new URL(picture.getAttribute("src"), address);
  for (const picture of copy.querySelectorAll("[srcset]")) {
    picture.srcset = new URL(picture.getAttribute("srcset"), address);
  }
  card.replaceChildren(copy);
  card.hidden = false;
  const place = link.getBoundingClientRect();
  const below = place.bottom + card.offsetHeight + 8 < innerHeight;
  card.style.left = `${Math.max(8, Math.min(place.left, innerWidth - card.offsetWidth - 8))}px`;
  card.style.top = `${below ? place.bottom + 4 : Math.max(8, place.top - card.offsetHeight - 4)}px`;
}

function later(what, after) {
  clearTimeout(timer);
  timer = setTimeout(what, after);
}

function hide() {
  card.hidden = true;
}

addEventListener("DOMContentLoaded", () => {
  document.body.append(card);
  for (const link of document.querySelectorAll("article a.reference[href*='#'], article a.term")) {
    if (new URL(link.href).origin !== location.origin) continue;
    link.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && later(() => show(link), 250));
    link.addEventListener("focus", () => link.matches(":focus-visible") && later(() => show(link), 250));
    link.addEventListener("pointerleave", () => later(hide, 250));
    link.addEventListener("blur", () => later(hide, 0));
  }
  card.addEventListener("pointerenter", () => clearTimeout(timer));
  card.addEventListener("pointerleave", () => later(hide, 250));
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
});

// The evidence of a claim of the ledger is folded: a link to the claim opens it, and a print has all of it.
function unfold(claims) {
  for (const box of document.querySelectorAll(`${claims} > details`)) box.open = true;
}

const linked = () => unfold(`.claim-card[id="${CSS.escape(location.hash.slice(1))}"]`); // :target comes later
addEventListener("DOMContentLoaded", linked);
addEventListener("hashchange", linked);
addEventListener("beforeprint", () => unfold(".claim-card"));
