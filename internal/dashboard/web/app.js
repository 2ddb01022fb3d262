'use strict';

// More nodes than that are shown by namespace, until a namespace, a search or a node is chosen.
const legible = 60;

const $ = id => document.getElementById(id);
let data = null;      // the last answer
let drawn = '';       // what was drawn last
let chosen = null;    // the id of a node
let shown = 'graph';

// element makes one with text; nothing that comes from a cluster is ever read as HTML.
function element(name, attributes = {}, ...children) {
  const svg = ['g', 'rect', 'path', 'text', 'tspan', 'polyline', 'title'].includes(name);
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) e.setAttribute(key, value);
  }
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

const rate = n => n === 0 ? '0' : n < 0.1 ? '<0.1' : n < 10 ? n.toFixed(1) : Math.round(n).toString();
const milliseconds = ms => ms === undefined ? '' : ms < 10 ? ms.toFixed(1) + ' ms' : ms < 10000 ? Math.round(ms) + ' ms' : Math.round(ms / 1000) + ' s';

function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) { bytes /= 1000; at++; }
  return (at === 0 ? bytes : bytes.toPrecision(3)) + ' ' + units[at];
}

// success is 100 % only if nothing failed.
function success(requests, failed) {
  if (requests === 0) return '';
  if (failed === 0) return '100 %';
  return Math.min(99.99, 100 * (requests - failed) / requests).toFixed(2).replace(/\.?0+$/, '') + ' %';
}

function quality(requests, failed) {
  if (requests === 0) return '';
  return failed === 0 ? 'good' : failed / requests < 0.01 ? 'poor' : 'bad';
}

const fails = e => e.failed > 0 || e.failedToConnect > 0;

// visible returns what the filters leave of the graph.
function visible() {
  const namespace = $('namespace').value, search = $('search').value.trim().toLowerCase(), failing = $('failing').checked;
  let edges = data.graph.edges.filter(e => !failing || fails(e));
  let wanted = data.graph.nodes;
  if (namespace !== '') wanted = wanted.filter(n => n.namespace === namespace);
  if (search !== '') wanted = wanted.filter(n => (n.namespace + '/' + n.name).toLowerCase().includes(search));
  if (data.graph.nodes.length > legible && chosen !== null) wanted = wanted.filter(n => n.id === chosen);
  let ids = new Set(wanted.map(n => n.id));
  if (wanted.length < data.graph.nodes.length) { // with those that they call, and that call them
    edges = edges.filter(e => ids.has(e.from) || ids.has(e.to));
    ids = new Set([...ids, ...edges.flatMap(e => [e.from, e.to])]);
  }
  if (failing) ids = new Set(edges.flatMap(e => [e.from, e.to]));
  const nodes = data.graph.nodes.filter(n => ids.has(n.id));
  const all = {nodes, edges, calls: edges};
  if (nodes.length <= legible) return all;
  return {...byNamespace(nodes, edges, namespace), calls: edges};
}

// Sizes of the text of a label.
const letter = 6.2, line = 15;

// wordsOf says of an edge how its calls go, in at most two lines.
function wordsOf(e) {
  const first = e.requests > 0 ? `${rate(e.perSecond)}/s ${success(e.requests, e.failed)}`
    : e.failedToConnect > 0 ? `${e.failedToConnect} failed to connect`
    : e.open > 0 || e.bytes > 0 ? `${e.open} open, ${size(e.bytes)}` : '';
  const second = [e.p99 === undefined ? '' : 'p99 ' + milliseconds(e.p99), e.mtls === 'all' ? 'mTLS' : ''].filter(t => t !== '').join(', ');
  return first === '' ? [] : second === '' ? [first] : [first, second];
}

function drawEdge(e, position) {
  const [[x1, y1], [bx1, by1], [bx2, by2], [x2, y2]] = curveOf(e, position);
  const path = e.from === e.to
    ? `M ${x1 - 34} ${y1 + nodeHeight / 2} c 0 22, 24 22, 24 2`
    : `M ${x1} ${y1} C ${bx1} ${by1}, ${bx2} ${by2}, ${x2} ${y2}`;
  const width = 1.2 + Math.min(4, Math.log10(1 + e.perSecond) * 1.5);
  const words = wordsOf(e);
  if (words.length === 0) words.push('no calls now', ...(e.mtls === 'all' ? ['mTLS'] : []));
  const spoken = words.join(', ') + (e.mtls === 'some' ? ', mTLS to some pods' : '');
  return element('g', {}, element('title', {}, spoken),
    element('path', {class: 'wide', d: path}),
    element('path', {class: 'edge ' + edgeQuality(e), d: path, 'stroke-width': width, 'marker-end': 'url(#arrow)'}));
}

// drawLabels draws the words of all edges, above all lines.
function drawLabels(edges, position) {
  const labels = edges.map(e => ({edge: e, words: wordsOf(e)})).filter(l => l.words.length > 0);
  for (const l of labels) {
    l.width = Math.max(...l.words.map(w => w.length)) * letter;
    l.height = l.words.length * line;
  }
  const text = (l, x, y) => element('text', {class: 'label', x, y, 'text-anchor': 'middle'}, ...l.words.map((w, i) => element('tspan', {x, dy: i === 0 ? 0 : line}, w)));
  const between = labels.filter(l => l.edge.from !== l.edge.to);
  const places = placeLabels(between, position);
  return [
    ...between.map((l, i) => text(l, places[i][0], places[i][1] - l.height / 2 + line - 4)),
    ...labels.filter(l => l.edge.from === l.edge.to).map(l => {
      const at = position.get(l.edge.from);
      return text({words: l.words.slice(0, 1)}, at.x + nodeWidth - 60 - l.words[0].length * letter / 2, at.y + nodeHeight + 16);
    }),
  ];
}

function edgeQuality(e) {
  return e.failedToConnect > 0 && e.requests === 0 ? 'bad' : quality(e.requests, e.failed);
}

function drawNode(n, at) {
  const label = n.joins ? `${n.joins} in ${n.namespace}` : n.name;
  const under = n.joins ? 'namespace' : n.service ? n.namespace + (n.pods ? ` · ${n.pods} pod${n.pods === 1 ? '' : 's'}` : '') : n.namespace;
  const open = () => {
    if (n.joins) { $('namespace').value = n.namespace; draw(); $('namespace').focus(); return; }
    choose(chosen === n.id ? null : n.id);
  };
  const short = text => text.length > 26 ? text.slice(0, 25) + '…' : text;
  return element('g', {
    class: 'node' + (n.id === chosen ? ' chosen' : ''), transform: `translate(${at.x} ${at.y})`, tabindex: 0, role: 'button', 'data-id': n.id,
    'aria-label': `${label}, ${under}`, 'aria-pressed': String(n.id === chosen),
    onclick: open, onkeydown: event => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(); } },
  }, element('title', {}, `${n.namespace}/${n.name}`), element('rect', {width: nodeWidth, height: nodeHeight, rx: n.service || n.joins ? 6 : 18}),
  element('text', {x: 10, y: 17}, short(label)), element('text', {class: 'label', x: 10, y: 32}, short(under)));
}

// arrow is the end of each edge.
function arrow() {
  const defs = document.createElementNS('http://www.w3.org/2000/svg', 'defs');
  const marker = document.createElementNS('http://www.w3.org/2000/svg', 'marker');
  for (const [key, value] of Object.entries({id: 'arrow', viewBox: '0 0 8 8', refX: 6, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: 'userSpaceOnUse', orient: 'auto'})) marker.setAttribute(key, value);
  marker.append(element('path', {class: 'arrow', d: 'M 0 0 L 8 4 L 0 8 z'}));
  defs.append(marker);
  return defs;
}

function drawGraph() {
  const {nodes, edges} = visible();
  $('empty').hidden = nodes.length > 0;
  $('empty').textContent = data.graph.nodes.length > 0 ? 'Nothing matches the filters.' : 'No calls yet. The page shows what sidecars and gateways count from now on.';
  const {position, width, height} = place(nodes, edges);
  const margin = 8, svg = $('drawing');
  svg.setAttribute('viewBox', `${-margin} ${-margin} ${width + 2 * margin} ${height + 2 * margin}`);
  svg.setAttribute('width', width + 2 * margin);
  svg.setAttribute('height', height + 2 * margin);
  svg.replaceChildren(arrow(), ...edges.map(e => drawEdge(e, position)), ...drawLabels(edges, position), ...nodes.map(n => drawNode(n, position.get(n.id))));
}

function callsTable(calls, columns) {
  const cell = (tag, c, text) => element(tag, {class: c}, text);
  const head = [['To', ''], ['Port', 'n'], ['From', ''], ['Per second', 'n'], ['Success', 'n'], ['p50', 'n'], ['p99', 'n'], ['Retries', 'n'], ['Connections', 'n'], ['Why', 'why']].filter(h => columns.includes(h[0]));
  const table = element('table', {}, element('thead', {}, element('tr', {}, ...head.map(h => cell('th', h[1], h[0])))));
  const body = element('tbody');
  for (const c of calls) {
    const texts = {
      To: [`${c.namespace}/${c.service}:${c.port}`, ''], Port: [String(c.port), 'n'], From: [`${c.from.namespace}/${c.from.name}`, ''], 'Per second': [rate(c.perSecond), 'n'],
      Success: [success(c.requests, c.failed), 'n ' + quality(c.requests, c.failed)], p50: [milliseconds(c.p50), 'n'], p99: [milliseconds(c.p99), 'n'],
      Retries: [c.retries ? String(c.retries) : '', 'n'], Connections: [c.open + (c.failedToConnect ? `, ${c.failedToConnect} failed` : ''), 'n'], Why: [c.why || '', 'why'],
    };
    body.append(element('tr', {}, ...head.map(h => cell('td', texts[h[0]][1], texts[h[0]][0]))));
  }
  table.append(body);
  return table;
}

function drawCalls() {
  const edges = new Set(visible().calls.map(e => e.from + ' ' + e.to)), failing = $('failing').checked;
  const calls = data.calls.filter(c => edges.has(c.fromNode + ' ' + c.toNode) && (!failing || fails(c)));
  $('calls').replaceChildren(calls.length ? callsTable(calls, ['To', 'From', 'Per second', 'Success', 'p50', 'p99', 'Retries', 'Connections', 'Why']) : element('p', {class: 'soft'}, 'No calls now.'));
}

// spark draws values from the oldest to the newest, from 0 to the highest.
function spark(values) {
  const most = Math.max(...values, 0), w = 240, h = 40;
  const line = values.map((v, i) => `${values.length < 2 ? 0 : i * w / (values.length - 1)},${h - 2 - (most > 0 ? v / most : 0) * (h - 4)}`).join(' ');
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('width', w);
  svg.setAttribute('height', h);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `from ${rate(values[0] ?? 0)} to ${rate(values.at(-1) ?? 0)}, at most ${rate(most)}`);
  svg.append(element('polyline', {class: 'spark', points: line}));
  return element('p', {class: 'soft'}, svg, ` now ${rate(values.at(-1) ?? 0)}, at most ${rate(most)}`);
}

const pods = n => `${n} pod${n === 1 ? '' : 's'}`;

function drawDetails() {
  const n = data.graph.nodes.find(n => n.id === chosen), aside = $('details');
  aside.hidden = !n;
  if (!n) return;
  const calls = data.calls.filter(c => c.toNode === n.id), out = data.calls.filter(c => c.fromNode === n.id);
  const parts = [
    element('button', {class: 'close', 'data-id': 'close', onclick: () => { choose(null); $('search').focus(); }}, 'Close'),
    element('h2', {}, `${n.service ? 'Service' : 'Workload'} ${n.namespace}/${n.name}`),
  ];
  if (n.service) parts.push(element('p', {class: 'soft'}, n.pods ? `${pods(n.pods)}, ${n.meshed} with an identity of the mesh${n.workloads ? ': ' + n.workloads.join(', ') : ''}` : 'no pods are known'));
  const history = data.history || [];
  if (history.length > 0) {
    const seconds = Math.round(history.reduce((all, p) => all + p.seconds, 0));
    parts.push(element('h3', {}, `Requests a second, last ${seconds} s`), spark(history.map(p => p.perSecond)));
    parts.push(element('h3', {}, 'Failed a second'), spark(history.map(p => p.failed)));
  }
  parts.push(element('h3', {}, 'Called by'), calls.length ? callsTable(calls, ['Port', 'From', 'Per second', 'Success', 'p99', 'Why']) : element('p', {class: 'soft'}, 'nobody now'));
  parts.push(element('h3', {}, 'Calls'), out.length ? callsTable(out, ['To', 'Per second', 'Success', 'p99', 'Why']) : element('p', {class: 'soft'}, 'nothing now'));
  if (n.service) parts.push(element('h3', {}, 'More'), element('pre', {}, `mizzenctl routes ${n.name}.${n.namespace}\nmizzenctl stat ${n.name}.${n.namespace}`));
  aside.replaceChildren(...parts);
}

const marks = {ok: ['✓', 'good'], warning: ['!', 'poor'], unknown: ['?', 'poor'], error: ['✗', 'bad']};

function drawStatus(status) {
  const order = ['error', 'unknown', 'warning', 'ok'];
  const worst = order.find(s => status.checks.some(c => c.state === s)) || 'ok';
  const bad = status.checks.filter(c => c.state !== 'ok').map(c => c.name);
  const said = bad.length ? 'look at: ' + bad.join(', ') : 'the mesh is well';
  if ($('state').dataset.said !== worst + said) $('state').replaceChildren(element('span', {class: marks[worst][1]}, marks[worst][0] + ' '), said);
  $('state').dataset.said = worst + said;
  const table = element('table', {}, element('tbody', {}, ...status.checks.map(c =>
    element('tr', {}, element('td', {class: marks[c.state][1]}, marks[c.state][0]), element('th', {scope: 'row'}, c.name), element('td', {class: 'why'}, c.text)))));
  const details = status.checks.flatMap(c => c.details || []).sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  $('mesh').replaceChildren(table, ...details.map(d => element('div', {},
    element('h3', {class: marks[d.state][1]}, `${marks[d.state][0]} ${d.object}`), element('p', {}, d.text), d.help ? element('pre', {}, d.help) : null)));
}

// choose takes another node, whose history comes with the next answer.
function choose(id) {
  chosen = id;
  data.history = [];
  draw();
  // The details take part of the width.
  document.querySelector('#drawing .chosen')?.scrollIntoView({block: 'nearest', inline: 'center'});
  if (id !== null) refresh();
}

// say sets a text that is read out only if it is another one.
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function draw() {
  if (!data) return;
  if (!data.graph.nodes.some(n => n.id === chosen)) chosen = null;
  const select = $('namespace'), before = select.value;
  const names = [...new Set([...data.graph.nodes.map(n => n.namespace), before].filter(n => n !== ''))].sort();
  if ([...select.options].slice(1).map(o => o.value).join() !== names.join()) {
    select.replaceChildren(element('option', {value: ''}, 'all'), ...names.map(n => element('option', {value: n}, n)));
    select.value = before;
  }
  for (const view of ['graph', 'calls', 'mesh']) {
    $(view).hidden = view !== shown;
    $('tab-' + view).setAttribute('aria-selected', String(view === shown));
    $('tab-' + view).tabIndex = view === shown ? 0 : -1;
  }
  const focused = document.activeElement?.dataset?.id;
  if (shown === 'graph') drawGraph();
  if (shown === 'calls') drawCalls();
  drawDetails();
  if (focused) document.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus({preventScroll: true});
  $('time').textContent = data.seconds > 0 ? `${new Date(data.at).toLocaleTimeString()}, the last ${data.seconds.toFixed(0)} s` : 'counting from now on';
  $('problem').hidden = !data.error;
  say('problem', data.error ? 'Not up to date: ' + data.error : '');
  $('missing').replaceChildren(...(data.missing || []).map(m => element('li', {}, m)));
}

async function load(path) {
  const answer = await fetch('api/' + path);
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer.json();
}

// refresh asks for what is new, and draws it.
async function refresh() {
  try {
    const asked = chosen;
    const next = await load('traffic' + (asked === null ? '' : '?node=' + encodeURIComponent(asked)));
    if (asked !== chosen) return;
    data = next;
    const now = JSON.stringify([data.at, data.error, asked]);
    if (now !== drawn) draw();
    drawn = now;
  } catch (e) {
    $('problem').hidden = false;
    say('problem', `Not up to date: ${e.message}. Does mizzenctl dashboard still run?`);
    drawn = '';
  }
}

async function traffic() {
  await refresh();
  setTimeout(traffic, data && data.seconds > 0 ? Math.min(10000, Math.max(1000, data.interval * 500)) : 1000);
}

async function status() {
  try {
    drawStatus(await load('status'));
  } catch (e) {
    $('state').textContent = 'the state of the mesh cannot be told: ' + e.message;
  }
  setTimeout(status, 20000);
}

for (const id of ['namespace', 'search', 'failing']) $(id).addEventListener('input', () => { chosen = null; draw(); });
const views = ['graph', 'calls', 'mesh'];
for (const [i, view] of views.entries()) {
  const show = view => { shown = view; draw(); $('tab-' + view).focus(); };
  $('tab-' + view).addEventListener('click', () => show(view));
  $('tab-' + view).addEventListener('keydown', event => {
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (by) show(views[(i + by + views.length) % views.length]);
  });
}
traffic();
status();
