// What a morph must leave alone: state that the reader made and the server does not know.
import htmx from "htmx.org/dist/htmx.esm.js";

/** Attributes that the browser changes in the reader's name. */
function isReadersOwn(element, name) {
  if (name === "open") return element.matches("details, dialog");
  if (name === "data-unread" || name === "data-overflow") return true;
  return false;
}

htmx.registerExtension("eklavya-morph", {
  // A field in use keeps its text, its caret and its composition.
  htmx_before_morph_node: (node) => node !== document.activeElement || !node.matches("input, textarea, select"),
  htmx_before_morph_attr: (element, detail) => !isReadersOwn(element, detail.attrName),
});
