// The chat's page: one request is always parked at the server, and brings what is new: a stream of server-sent events, or
// where something on the way holds those back, one long poll after another.

const TEXT_CHARS_MAX = 2000;
const SHOWN_MAX = 1000; // The oldest go first, so that a page left open for a week stays light.
const POLL_MILLIS_MAX = 60_000; // Longer than the server parks: after it the connection is taken for dead.
const STREAM_OPEN_MILLIS_MAX = 5_000; // After it the stream is taken for held back, and the page falls back.
const BACK_OFF_MILLIS = { first: 250, max: 5_000 };
const NOW_EVERY_MILLIS = 1_000;
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
    reconnect();
  }
  element('name').value = me;
});
element('name').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.isComposing) return;
  event.preventDefault(); // Or the new line goes to where the focus goes.
  element('text').focus();
});

// ----- what is new -----

let cursor = 'oldest'; // Behind the last message seen; at first all that is kept is new.
let connection = { abort() {} }; // The stream or the poll that is parked now.

const topic = () => `topic?${new URLSearchParams({ since: cursor, name: me })}`;
const reconnect = () => connection.abort('renamed');

function showMissed(missed) {
  showDivider(missed === 'unknown' ? 'The server was restarted' : 'Some messages were missed here');
}

// Resolves when the stream does not work here; the browser comes back by itself when one that did work has broken.
function stream() {
  return new Promise((resolve) => {
    const source = new EventSource(topic());
    const end = (again) => {
      clearTimeout(patience);
      source.close();
      resolve(again);
    };
    const patience = setTimeout(end, STREAM_OPEN_MILLIS_MAX, false);
    connection = { abort: () => end(true) };
    source.onopen = () => {
      clearTimeout(patience);
      showStatus('on', 'Connected');
    };
    source.onmessage = ({ data, lastEventId }) => {
      cursor = lastEventId;
      showMessage(JSON.parse(data));
    };
    source.addEventListener('gap', ({ data, lastEventId }) => {
      cursor = lastEventId;
      showMissed(JSON.parse(data).missed ?? 'unknown');
    });
    source.onerror = () => {
      showStatus('off', 'Reconnecting…');
      if (source.readyState === EventSource.CLOSED) end(false);
    };
  });
}

async function poll(connected) {
  const polling = new AbortController();
  connection = polling;
  const signal = AbortSignal.any([polling.signal, AbortSignal.timeout(POLL_MILLIS_MAX)]);
  // As long as it is not known that the server is there, it says so at once.
  const headers = connected ? {} : { prefer: 'wait=0' };
  const response = await fetch(topic(), { signal, headers, cache: 'no-store' });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const messages = response.status === 204 ? [] : await response.json();
  const missed = response.headers.get('topic-missed');
  cursor = JSON.parse(response.headers.get('etag'));
  if (missed) showMissed(missed);
  messages.forEach(showMessage);
}

async function pollForever() {
  for (let connected = false, failures = 0; ; ) {
    try {
      await poll(connected);
      connected = true;
      failures = 0;
      showStatus('on', 'Connected');
    } catch (error) {
      if (error === 'renamed') continue;
      connected = false;
      failures += 1;
      showStatus('off', 'Reconnecting…');
      await backOff(failures);
    }
  }
}

async function listen() {
  while (await stream());
  document.documentElement.dataset.fallenBack = ''; // To be seen in the page: how it is connected.
  await pollForever();
}

// Waits longer after each failure, by a random part, so that not all clients come back in the same instant.
function backOff(failures) {
  const millis = Math.min(BACK_OFF_MILLIS.first * 2 ** (failures - 1), BACK_OFF_MILLIS.max);
  return new Promise((resolve) => {
    setTimeout(resolve, millis * (0.5 + Math.random() / 2));
    addEventListener('online', resolve, { once: true });
  });
}

async function showNow() {
  if (document.hidden) return;
  try {
    const { parked, people } = await (await fetch('now', { cache: 'no-store' })).json();
    element('parked').textContent = `${parked} ${parked === 1 ? 'request' : 'requests'} parked now`;
    showPeople(people);
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
    const response = await fetch('topic', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
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

function showMessage({ name, text, at }) {
  const same = lastShown.name === name && at - lastShown.at < SAME_SPEAKER_MILLIS;
  const message = create('li', { className: ['message', name === me && 'mine', same && 'same'].filter(Boolean).join(' ') });
  const from = create('p', { className: 'from' });
  const speaker = create('b', { textContent: name, dir: 'auto' });
  const time = create('time', { textContent: clock.format(at), dateTime: new Date(at).toISOString() });
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

setInterval(showNow, NOW_EVERY_MILLIS);
showNow();
listen();
