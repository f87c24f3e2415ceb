// Formulas that are wider than the screen scroll in their own box: let the keyboard reach those.
function reach() {
  for (const formula of document.querySelectorAll("mjx-container[display]")) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}

addEventListener("resize", reach);
addEventListener("load", reach);
