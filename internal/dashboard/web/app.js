'use strict';

// More nodes than that are shown by namespace, until a namespace, a search or a node is chosen.
const legible = 60;

const $ = id => document.getElementById(id);
let data = null;      // the last answer
let chosen = null;    // the id of a node
let shown = 'graph';

// element makes one with text; nothing that comes from a cluster is ever read as HTML.
function element(name, attributes = {}, ...children) {
  const svg = ['g', 'rect', 'path', 'text', 'polyline', 'title'].includes(name);
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) e.setAttribute(key, value);
  }
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

const rate = n => n === 0 ? '0' : n < 10 ? n.toFixed(1) : Math.round(n).toString();
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

// visible returns what the filters leave of the graph.
function visible() {
  const namespace = $('namespace').value, search = $('search').value.trim().toLowerCase(), failing = $('failing').checked;
  let edges = data.graph.edges.filter(e => !failing || e.failed > 0);
  let ids = new Set(data.graph.nodes.map(n => n.id));
  const near = wanted => {
    edges = edges.filter(e => wanted.has(e.from) || wanted.has(e.to));
    ids = new Set([...wanted, ...edges.flatMap(e => [e.from, e.to])]);
  };
  if (namespace !== '') near(new Set(data.graph.nodes.filter(n => n.namespace === namespace).map(n => n.id)));
  if (search !== '') near(new Set(data.graph.nodes.filter(n => (n.namespace + '/' + n.name).toLowerCase().includes(search)).map(n => n.id)));
  if (failing) ids = new Set(edges.flatMap(e => [e.from, e.to]));
  if (data.graph.nodes.length > legible && chosen !== null) near(new Set([chosen]));
  const nodes = data.graph.nodes.filter(n => ids.has(n.id));
  if (nodes.length > legible) return {...byNamespace(nodes, edges), joined: true};
  return {nodes, edges, joined: false};
}

function drawEdge(e, position) {
  const a = position.get(e.from), b = position.get(e.to);
  const x1 = a.x + nodeWidth, y1 = a.y + nodeHeight / 2, x2 = b.x, y2 = b.y + nodeHeight / 2;
  const itself = e.from === e.to;
  const forward = x2 > x1;
  const bend = forward ? (x2 - x1) / 2 : columnGap / 2;
  const path = itself
    ? `M ${a.x + nodeWidth - 30} ${a.y + nodeHeight} c 0 22, 24 22, 24 0`
    : `M ${x1} ${y1} C ${x1 + bend} ${y1}, ${x2 - bend} ${y2}, ${x2} ${y2}`;
  const width = 1.2 + Math.min(4, Math.log10(1 + e.perSecond) * 1.5);
  const words = e.requests > 0 ? `${rate(e.perSecond)}/s ${success(e.requests, e.failed)}` : e.open > 0 || e.bytes > 0 ? `${e.open} open, ${size(e.bytes)}` : '';
  const spoken = `${words || 'no calls now'}${e.p99 === undefined ? '' : ', p99 ' + milliseconds(e.p99)}${e.mtls === 'all' ? ', mTLS' : e.mtls ? ', mTLS to ' + e.mtls + ' pods' : ''}`;
  const g = element('g', {}, element('title', {}, spoken), element('path', {class: 'edge ' + quality(e.requests, e.failed), d: path, 'stroke-width': width}));
  if (words !== '' && !itself) {
    const x = (x1 + x2) / 2, y = (y1 + y2) / 2 - 6;
    g.append(element('text', {class: 'label', x: x, y: y, 'text-anchor': 'middle'}, words));
    if (e.mtls === 'all') g.append(element('text', {class: 'label good', x: x, y: y + 18, 'text-anchor': 'middle'}, 'mTLS'));
  }
  return g;
}

function drawNode(n, at) {
  const label = n.joins ? `${n.joins} in ${n.namespace}` : n.name;
  const under = n.joins ? 'namespace' : n.service ? n.namespace + (n.pods ? ` · ${n.pods} pod${n.pods === 1 ? '' : 's'}` : '') : n.namespace;
  const open = () => {
    if (n.joins) { $('namespace').value = n.namespace; draw(); return; }
    chosen = chosen === n.id ? null : n.id;
    draw();
  };
  const short = text => text.length > 26 ? text.slice(0, 25) + '…' : text;
  return element('g', {
    class: 'node' + (n.id === chosen ? ' chosen' : ''), transform: `translate(${at.x} ${at.y})`, tabindex: 0, role: 'button', 'data-id': n.id,
    'aria-label': `${label}, ${under}`, 'aria-pressed': String(n.id === chosen),
    onclick: open, onkeydown: event => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(); } },
  }, element('title', {}, `${n.namespace}/${n.name}`), element('rect', {width: nodeWidth, height: nodeHeight, rx: n.service || n.joins ? 6 : 18}),
  element('text', {x: 10, y: 17}, short(label)), element('text', {class: 'label', x: 10, y: 32}, short(under)));
}

function drawGraph() {
  const {nodes, edges} = visible();
  $('empty').hidden = nodes.length > 0;
  const {position, width, height} = place(nodes, edges);
  const margin = 8, svg = $('drawing');
  const focused = document.activeElement?.dataset?.id;
  svg.setAttribute('viewBox', `${-margin} ${-margin} ${width + 2 * margin} ${height + 2 * margin}`);
  svg.setAttribute('width', width + 2 * margin);
  svg.setAttribute('height', height + 2 * margin);
  svg.replaceChildren(...edges.map(e => drawEdge(e, position)), ...nodes.map(n => drawNode(n, position.get(n.id))));
  if (focused) svg.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

function callsTable(calls, columns) {
  const cell = (tag, c, text) => element(tag, {class: c}, text);
  const head = [['To', ''], ['From', ''], ['Per second', 'n'], ['Success', 'n'], ['p50', 'n'], ['p99', 'n'], ['Connections', 'n'], ['Why', 'why']].filter(h => columns.includes(h[0]));
  const table = element('table', {}, element('thead', {}, element('tr', {}, ...head.map(h => cell('th', h[1], h[0])))));
  const body = element('tbody');
  for (const c of calls) {
    const texts = {
      To: [`${c.namespace}/${c.service}:${c.port}`, ''], From: [`${c.from.namespace}/${c.from.name}`, ''], 'Per second': [rate(c.perSecond), 'n'],
      Success: [success(c.requests, c.failed), 'n ' + quality(c.requests, c.failed)], p50: [milliseconds(c.p50), 'n'], p99: [milliseconds(c.p99), 'n'],
      Connections: [String(c.open), 'n'], Why: [c.why || '', 'why'],
    };
    body.append(element('tr', {}, ...head.map(h => cell('td', texts[h[0]][1], texts[h[0]][0]))));
  }
  table.append(body);
  return table;
}

function drawCalls() {
  const {nodes, joined} = visible();
  const names = new Set(nodes.map(n => n.service ? n.namespace + '/' + n.name : ''));
  const failing = $('failing').checked;
  const calls = data.calls.filter(c => (joined || names.has(c.namespace + '/' + c.service)) && (!failing || c.failed > 0));
  $('calls').replaceChildren(callsTable(calls, ['To', 'From', 'Per second', 'Success', 'p50', 'p99', 'Connections', 'Why']));
}

function spark(points, of) {
  const values = points.map(of), most = Math.max(...values, 0.001), w = 240, h = 40;
  const line = values.map((v, i) => `${values.length < 2 ? 0 : i * w / (values.length - 1)},${h - 2 - v / most * (h - 4)}`).join(' ');
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('width', w);
  svg.setAttribute('height', h);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `from ${rate(values[0] ?? 0)} to ${rate(values.at(-1) ?? 0)}, at most ${rate(Math.max(...values, 0))}`);
  svg.append(element('polyline', {class: 'spark', points: line}));
  return svg;
}

function sum(edges, of) {
  const longest = Math.max(0, ...edges.map(e => e.history.length));
  return Array.from({length: longest}, (_, i) => edges.reduce((all, e) => {
    const at = i - (longest - e.history.length);
    return at < 0 ? all : all + of(e.history[at]);
  }, 0));
}

function drawDetails() {
  const n = data.graph.nodes.find(n => n.id === chosen), aside = $('details');
  aside.hidden = !n;
  if (!n) return;
  const into = data.graph.edges.filter(e => e.to === n.id);
  const calls = data.calls.filter(c => n.service && c.namespace === n.namespace && c.service === n.name);
  const mine = new Set(n.service ? n.workloads || [] : [n.name]);
  const out = data.calls.filter(c => c.from.namespace === n.namespace && mine.has(c.from.name));
  const parts = [
    element('button', {class: 'close', onclick: () => { chosen = null; draw(); }}, 'Close'),
    element('h2', {}, `${n.service ? 'Service' : 'Workload'} ${n.namespace}/${n.name}`),
  ];
  if (n.service) parts.push(element('p', {class: 'soft'}, n.pods ? `${n.pods} pods, ${n.meshed} with mTLS of the mesh${n.workloads ? ': ' + n.workloads.join(', ') : ''}` : 'no pods are known'));
  if (into.length > 0) {
    const seconds = Math.round(Math.max(...into.map(e => e.history.length)) * data.interval);
    parts.push(element('h3', {}, `Requests a second, last ${seconds} s`), spark(sum(into, p => p.perSecond), v => v));
    parts.push(element('h3', {}, 'Failed a second'), spark(sum(into, p => p.failed), v => v));
  }
  parts.push(element('h3', {}, 'Called by'), calls.length ? callsTable(calls, ['From', 'Per second', 'Success', 'p99', 'Why']) : element('p', {class: 'soft'}, 'nobody now'));
  parts.push(element('h3', {}, 'Calls'), out.length ? callsTable(out, ['To', 'Per second', 'Success', 'p99', 'Why']) : element('p', {class: 'soft'}, 'nobody now'));
  const target = n.service ? `${n.name}.${n.namespace}` : '';
  if (n.service) parts.push(element('h3', {}, 'More'), element('pre', {}, `mizzenctl routes ${target}\nmizzenctl stat ${target}`));
  aside.replaceChildren(...parts);
}

const marks = {ok: ['✓', 'good'], warning: ['!', 'poor'], unknown: ['?', 'poor'], error: ['✗', 'bad']};

function drawStatus(status) {
  const order = ['error', 'unknown', 'warning', 'ok'];
  const worst = order.find(s => status.checks.some(c => c.state === s)) || 'ok';
  const bad = status.checks.filter(c => c.state !== 'ok').map(c => c.name);
  $('state').replaceChildren(element('span', {class: marks[worst][1]}, marks[worst][0] + ' '), bad.length ? 'look at: ' + bad.join(', ') : 'the mesh is well');
  const table = element('table', {}, element('tbody', {}, ...status.checks.map(c =>
    element('tr', {}, element('td', {class: marks[c.state][1]}, marks[c.state][0]), element('th', {scope: 'row'}, c.name), element('td', {class: 'why'}, c.text)))));
  const details = status.checks.flatMap(c => c.details || []).sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  $('mesh').replaceChildren(table, ...details.map(d => element('div', {},
    element('h3', {class: marks[d.state][1]}, `${marks[d.state][0]} ${d.object}`), element('p', {}, d.text), d.help ? element('pre', {}, d.help) : null)));
}

function draw() {
  if (!data) return;
  const names = [...new Set(data.graph.nodes.map(n => n.namespace))].sort();
  const select = $('namespace'), before = select.value;
  if ([...select.options].slice(1).map(o => o.value).join() !== names.join()) {
    select.replaceChildren(element('option', {value: ''}, 'all'), ...names.map(n => element('option', {value: n}, n)));
    select.value = names.includes(before) ? before : '';
  }
  for (const view of ['graph', 'calls', 'mesh']) {
    $(view).hidden = view !== shown;
    $('tab-' + view).setAttribute('aria-selected', String(view === shown));
  }
  if (shown === 'graph') drawGraph();
  if (shown === 'calls') drawCalls();
  drawDetails();
  $('time').textContent = data.seconds > 0 ? `${new Date(data.at).toLocaleTimeString()}, the last ${data.seconds.toFixed(0)} s` : 'counting since now';
  $('problem').hidden = !data.error;
  $('problem').textContent = data.error ? 'Nothing newer: ' + data.error : '';
  $('missing').replaceChildren(...(data.missing || []).map(m => element('li', {}, m)));
}

async function load(path) {
  const answer = await fetch('api/' + path);
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer.json();
}

async function traffic() {
  try {
    data = await load('traffic');
    draw();
  } catch (e) {
    $('problem').hidden = false;
    $('problem').textContent = `Nothing newer: ${e.message}. Does mizzenctl dashboard still run?`;
  }
  setTimeout(traffic, data && data.seconds > 0 ? Math.max(1000, data.interval * 500) : 1000);
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
for (const view of ['graph', 'calls', 'mesh']) $('tab-' + view).addEventListener('click', () => { shown = view; draw(); });
traffic();
status();
