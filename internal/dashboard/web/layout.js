'use strict';
// Places the nodes of a graph in columns, so that calls go from left to right where they can. It knows no page.

const nodeWidth = 190, nodeHeight = 40, columnGap = 170, rowGap = 44;

// deepest is how many columns a drawing has before nodes are placed by the shortest way to them in place of the longest.
const deepest = 8;

// columnsOf gives each node a column. An edge that would close a circle goes back to the left.
function columnsOf(nodes, edges) {
  const callees = new Map(nodes.map(n => [n.id, []]));
  const called = new Set();
  for (const e of edges) {
    if (e.from !== e.to && callees.has(e.from) && callees.has(e.to)) {
      callees.get(e.from).push(e.to);
      called.add(e.to);
    }
  }
  const first = [...nodes.filter(n => !called.has(n.id)), ...nodes].map(n => n.id);
  const columns = longest(first, callees);
  return Math.max(...columns.values()) < deepest ? columns : shortest(first, callees);
}

// longest gives each node the length of the longest way to it.
function longest(first, callees) {
  const order = [], state = new Map(), forward = new Map();
  const visit = id => { // after all that it calls, except where that closes a circle
    state.set(id, 'on the way');
    for (const to of callees.get(id)) if (!state.has(to)) visit(to);
    forward.set(id, callees.get(id).filter(to => state.get(to) === 'done'));
    state.set(id, 'done');
    order.push(id);
  };
  for (const id of first) if (!state.has(id)) visit(id);
  const column = new Map(order.map(id => [id, 0]));
  for (const id of order.reverse()) {
    for (const to of forward.get(id)) column.set(to, Math.max(column.get(to), column.get(id) + 1));
  }
  return column;
}

// shortest gives each node the length of the shortest way to it from one that nobody calls.
function shortest(first, callees) {
  const column = new Map();
  for (const from of first) {
    if (column.has(from)) continue;
    column.set(from, 0);
    const queue = [from];
    for (const id of queue) {
      for (const to of callees.get(id)) {
        if (column.has(to)) continue;
        column.set(to, column.get(id) + 1);
        queue.push(to);
      }
    }
  }
  return column;
}

// place returns the position of each node, and the size of the drawing.
function place(nodes, edges) {
  const column = columnsOf(nodes, edges);
  const columns = [];
  for (const n of nodes) (columns[column.get(n.id)] ||= []).push(n);
  const position = new Map();
  let height = 0, x = 0;
  for (const list of columns) {
    if (!list) continue;
    // Next to those that call them, and by namespace.
    const middle = new Map(list.map(n => {
      const ys = edges.filter(e => e.to === n.id && position.has(e.from)).map(e => position.get(e.from).y);
      return [n.id, ys.length ? ys.reduce((a, b) => a + b) / ys.length : 0];
    }));
    list.sort((a, b) => a.namespace.localeCompare(b.namespace) || middle.get(a.id) - middle.get(b.id) || a.name.localeCompare(b.name));
    let y = 0, namespace = null;
    for (const n of list) {
      if (namespace !== null && namespace !== n.namespace) y += rowGap;
      namespace = n.namespace;
      position.set(n.id, {x, y});
      y += nodeHeight + rowGap;
    }
    height = Math.max(height, y);
    x += nodeWidth + columnGap;
  }
  return {position, width: Math.max(x - columnGap, nodeWidth), height: Math.max(height - rowGap, nodeHeight)};
}

// curveOf returns the points of the curve that draws an edge: its two ends, each with the point that it bends towards.
function curveOf(e, position) {
  const a = position.get(e.from), b = position.get(e.to);
  const x1 = a.x + nodeWidth, y1 = a.y + nodeHeight / 2, x2 = b.x - 4, y2 = b.y + nodeHeight / 2;
  const bend = x2 > x1 ? (x2 - x1) / 2 : columnGap / 2;
  return [[x1, y1], [x1 + bend, y1], [x2 - bend, y2], [x2, y2]];
}

// along returns the point of a curve at a part of it, from 0 to 1.
function along([a, b, c, d], t) {
  const at = i => (1 - t) ** 3 * a[i] + 3 * (1 - t) ** 2 * t * b[i] + 3 * (1 - t) * t ** 2 * c[i] + t ** 3 * d[i];
  return [at(0), at(1)];
}

// Where on its edge a label may be, the best first.
const labelPlaces = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8];

// placeLabels returns where the middle of each label is, [x, y]. A label has an edge, a width and a height. It lies on its edge, at a place
// where it covers no node and no other label if there is one, or else the least of them.
function placeLabels(labels, position) {
  const taken = [...position.values()].map(p => ({x: p.x, y: p.y, width: nodeWidth, height: nodeHeight}));
  const common = (a, b) => Math.max(0, Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x)) * Math.max(0, Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y));
  return labels.map(({edge, width, height}) => {
    const curve = curveOf(edge, position);
    let best = null;
    for (const t of labelPlaces) {
      const [x, y] = along(curve, t), box = {x: x - width / 2, y: y - height / 2, width, height};
      const covered = taken.reduce((sum, other) => sum + common(box, other), 0);
      if (best === null || covered < best.covered) best = {at: [x, y], box, covered};
      if (covered === 0) break;
    }
    taken.push(best.box);
    return best.at;
  });
}

// byNamespace joins the nodes of each namespace into one, for graphs that would be too large to read; those of one namespace stay.
function byNamespace(nodes, edges, stays) {
  const joined = new Map();
  const of = new Map();
  for (const n of nodes) {
    const id = n.namespace === stays ? n.id : 'namespace/' + n.namespace;
    of.set(n.id, id);
    if (n.namespace === stays) joined.set(id, n);
    else if (joined.has(id)) joined.get(id).joins++;
    else joined.set(id, {id, namespace: n.namespace, name: n.namespace, joins: 1});
  }
  const between = new Map();
  for (const e of edges) {
    const from = of.get(e.from), to = of.get(e.to), key = from + ' ' + to;
    const sum = between.get(key) || {from, to, requests: 0, failed: 0, perSecond: 0, open: 0, failedToConnect: 0, bytes: 0, mtls: e.mtls};
    for (const field of ['requests', 'failed', 'perSecond', 'open', 'failedToConnect', 'bytes']) sum[field] += e[field] || 0;
    if (e.p99 !== undefined) sum.p99 = Math.max(sum.p99 ?? 0, e.p99);
    if (sum.mtls !== e.mtls) sum.mtls = 'some';
    between.set(key, sum);
  }
  return {nodes: [...joined.values()], edges: [...between.values()]};
}
