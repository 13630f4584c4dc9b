"use strict";

// The address has the token behind its #, which browsers send to nobody.
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);

const find = (id) => document.getElementById(id);
let left = 0;

async function ask(path, body) {
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.status === 422) {
    return { objections: await answer.json() };
  }
  if (!answer.ok) {
    throw new Error(await answer.text());
  }
  return answer.json();
}

function progress() {
  find("progress").textContent =
    left === 0 ? "No text is left to decide on." : `${left} ${left === 1 ? "text is" : "texts are"} left to decide on.`;
}

function list(items, to) {
  to.replaceChildren(...items.map((item) => Object.assign(document.createElement("li"), { textContent: item })));
}

function card(text) {
  const it = find("card").content.firstElementChild.cloneNode(true);
  const part = (selector) => it.querySelector(selector);
  for (const name of ["part", "theme", "writer", "text"]) {
    part(`.${name}`).textContent = text[name];
  }
  list(text.facts, part(".facts"));
  const [form, choices, words, objections] = [part(".words"), part(".choices"), part("textarea"), part(".objections")];
  const decide = async (decision) => {
    for (const button of it.querySelectorAll("button")) {
      button.disabled = true;
    }
    try {
      const found = await ask("decisions", { id: text.id, ...decision });
      if (found.objections === undefined) {
        it.remove();
        left = found.left;
        progress();
        find("texts").querySelector("button")?.focus();
        return;
      }
      list(found.objections, objections);
    } catch (error) {
      list([error.message], objections);
    }
    for (const button of it.querySelectorAll("button")) {
      button.disabled = false;
    }
  };
  let verdict = "";
  const write = (of, asked, send, value) => {
    verdict = of;
    part(".asked").textContent = asked;
    form.querySelector("[type=submit]").textContent = send;
    words.value = value;
    [form.hidden, choices.hidden] = [false, true];
    words.focus();
  };
  part(".approve").onclick = () => decide({ verdict: "approved" });
  part(".edit").onclick = () => write("edited", "The text as it should be", "Approve this text", text.text);
  part(".refuse").onclick = () => write("refused", "Why?", "Refuse", "");
  part(".back").onclick = () => {
    [form.hidden, choices.hidden] = [true, false];
    list([], objections);
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    decide(verdict === "edited" ? { verdict, new_text: words.value } : { verdict, reason: words.value });
  };
  return it;
}

find("finish").onclick = async () => {
  try {
    const found = await ask("finish", {});
    document.querySelectorAll("button").forEach((button) => (button.disabled = true));
    find("done").textContent = found.done;
  } catch (error) {
    find("done").textContent = error.message;
  }
};

ask("texts").then(
  (found) => {
    find("about").textContent = found.about;
    left = found.texts.length;
    progress();
    find("texts").replaceChildren(...found.texts.map(card));
    find("finish").disabled = false;
  },
  (error) => (find("progress").textContent = error.message),
);
