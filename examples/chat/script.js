// The chat's page: one request is always parked at the server, and its answer brings what is new.

const TEXT_CHARS_MAX = 2000;
const SHOWN_MAX = 1000; // The oldest go first, so that a page left open for a week stays light.
const POLL_MILLIS_MAX = 60_000; // Longer than the server parks: after it the connection is taken for dead.
const BACK_OFF_MILLIS = { first: 250, max: 5_000 };
const PARKED_EVERY_MILLIS = 2_000;
const SAME_SPEAKER_MILLIS = 5 * 60_000;

const element = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

// ----- who I am: for each window its own name, kept over a reload -----

let me = sessionStorage.getItem('name') ?? `Guest ${100 + Math.floor(Math.random() * 900)}`;
sessionStorage.setItem('name', me);
element('name').value = me;

element('name').addEventListener('change', () => {
  const name = element('name').value.trim();
  if (name && name !== me) {
    me = name;
    sessionStorage.setItem('name', me);
    polling.abort('renamed');
  }
  element('name').value = me;
});
element('name').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.isComposing) return;
  event.preventDefault(); // Or the new line goes to where the focus goes.
  element('text').focus();
});

// ----- what is new -----

let epoch = ''; // Which run of the server; none before its first answer.
let since = 0; // The number of the last thing seen in it.
let polling = new AbortController();

async function poll(askForAll) {
  // A server that is told no epoch, or that of another run, answers at once with all it has.
  const query = new URLSearchParams({ since, epoch: askForAll ? '' : epoch, name: me });
  polling = new AbortController();
  const signal = AbortSignal.any([polling.signal, AbortSignal.timeout(POLL_MILLIS_MAX)]);
  const response = await fetch(`poll?${query}`, { signal, cache: 'no-store' });
  if (response.status === 204) return;
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  take(await response.json());
}

function take(news) {
  const seen = news.epoch === epoch ? since : 0;
  if (epoch && news.epoch !== epoch) showDivider('The server was restarted');
  if (news.missed) showDivider('Some messages were missed here');
  epoch = news.epoch;
  since = news.next;
  for (const message of news.messages) {
    if (message.id > seen) showMessage(message);
  }
  showPeople(news.people);
}

async function pollForever() {
  for (let failures = 0; ; ) {
    try {
      await poll(failures > 0);
      failures = 0;
      showStatus('on', 'Connected');
    } catch (error) {
      if (polling.signal.aborted) continue;
      failures += 1;
      showStatus('off', 'Reconnecting…');
      await backOff(failures);
    }
  }
}

// Waits longer after each failure, by a random part, so that not all clients come back in the same instant.
function backOff(failures) {
  const millis = Math.min(BACK_OFF_MILLIS.first * 2 ** (failures - 1), BACK_OFF_MILLIS.max);
  return new Promise((resolve) => {
    setTimeout(resolve, millis * (0.5 + Math.random() / 2));
    addEventListener('online', resolve, { once: true });
  });
}

async function showParked() {
  if (document.hidden) return;
  try {
    const { parked } = await (await fetch('parked', { cache: 'no-store' })).json();
    element('parked').textContent = `${parked} ${parked === 1 ? 'request' : 'requests'} parked now`;
  } catch {
    element('parked').textContent = '';
  }
}

// ----- what I say -----

element('composer').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = element('text').value.trim();
  const tooMany = [...text].length - TEXT_CHARS_MAX;
  if (!text) return;
  if (tooMany > 0) return showNotice(`Too long by ${tooMany} characters`);
  const button = event.target.querySelector('button');
  button.disabled = true;
  try {
    const body = JSON.stringify({ name: me, text });
    const response = await fetch('say', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    if (!response.ok) return showNotice(`Not sent: ${await response.text()}`);
    showNotice('');
    if (element('text').value.trim() === text) element('text').value = '';
    toLatest();
  } catch {
    showNotice('Not sent: the server cannot be reached. Your text is still here, try again.');
  } finally {
    button.disabled = false;
  }
});

element('text').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element('composer').requestSubmit();
});

// ----- what is shown; always as text, never as HTML -----

let lastShown = { name: '', at: 0 };

function showMessage({ id, name, text, at }) {
  const same = lastShown.name === name && at - lastShown.at < SAME_SPEAKER_MILLIS;
  const message = create('li', { className: ['message', name === me && 'mine', same && 'same'].filter(Boolean).join(' ') });
  const from = create('p', { className: 'from' });
  const speaker = create('b', { textContent: name, dir: 'auto' });
  const time = create('time', { textContent: clock.format(at), dateTime: new Date(at).toISOString() });
  message.dataset.id = id;
  message.style.setProperty('--hue', hue(name));
  from.append(speaker, time);
  message.append(from, create('p', { className: 'text', textContent: text, dir: 'auto' }));
  show(message);
  lastShown = { name, at };
}

function showDivider(text) {
  show(create('li', { className: 'divider', textContent: text }));
  lastShown = { name: '', at: 0 };
}

let atLatest = true; // Not while someone reads further up: then new messages do not move the page.

function show(item) {
  const messages = element('messages');
  element('nothing').hidden = true;
  messages.append(item);
  while (messages.children.length > SHOWN_MAX) messages.firstElementChild.remove();
  if (atLatest) toLatest();
  else element('latest').hidden = false;
}

function toLatest() {
  element('scroller').scrollTop = element('scroller').scrollHeight;
  element('latest').hidden = true;
}

element('latest').addEventListener('click', toLatest);
element('scroller').addEventListener('scroll', ({ target }) => {
  atLatest = target.scrollHeight - target.scrollTop - target.clientHeight < 80;
  if (atLatest) element('latest').hidden = true;
});
// The keyboard of a phone takes room away from the messages.
new ResizeObserver(() => atLatest && toLatest()).observe(element('scroller'));

function showPeople(people) {
  element('people').replaceChildren(
    ...people.map((name) => {
      const person = create('li', {});
      person.style.setProperty('--hue', hue(name));
      person.append(create('span', { textContent: name === me ? `${name} (you)` : name, dir: 'auto' }));
      return person;
    }),
  );
}

function showStatus(state, text) {
  if (element('status').textContent === text) return;
  element('status').dataset.state = state;
  element('status').textContent = text;
}

function showNotice(text) {
  element('notice').textContent = text;
  element('notice').hidden = !text;
}

function create(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// A colour for each name, the same in every window.
function hue(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 360;
  return hash;
}

setInterval(showParked, PARKED_EVERY_MILLIS);
showParked();
pollForever();
