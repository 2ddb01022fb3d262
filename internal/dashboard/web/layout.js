'use strict';
// Places the nodes of a graph in columns, so that calls go from left to right where they can. It knows no page.

const nodeWidth = 190, nodeHeight = 40, columnGap = 150, rowGap = 26;

// columnsOf gives each node the length of the longest way to it. Ways end where they close a circle.
function columnsOf(nodes, edges) {
  const callees = new Map(nodes.map(n => [n.id, []]));
  const called = new Set();
  for (const e of edges) {
    if (e.from !== e.to && callees.has(e.from) && callees.has(e.to)) {
      callees.get(e.from).push(e.to);
      called.add(e.to);
    }
  }
  const column = new Map(nodes.map(n => [n.id, 0]));
  const onWay = new Set();
  // Each visit that moves a node to the right goes on from it: the number of columns is bounded by the number of nodes.
  const visit = (id, at) => {
    if (onWay.has(id) || at < column.get(id) || at >= nodes.length) return;
    if (at === column.get(id) && at > 0) return;
    column.set(id, at);
    onWay.add(id);
    for (const next of callees.get(id)) visit(next, at + 1);
    onWay.delete(id);
  };
  for (const n of nodes) if (!called.has(n.id)) visit(n.id, 0);
  for (const n of nodes) if (called.has(n.id) && column.get(n.id) === 0) visit(n.id, 0);
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

// byNamespace joins the nodes of each namespace into one, for graphs that would be too large to read.
function byNamespace(nodes, edges) {
  const joined = new Map();
  const of = new Map();
  for (const n of nodes) {
    const id = 'namespace/' + n.namespace;
    of.set(n.id, id);
    if (!joined.has(id)) joined.set(id, {id, namespace: n.namespace, name: n.namespace, joins: 0});
    joined.get(id).joins++;
  }
  const between = new Map();
  for (const e of edges) {
    const from = of.get(e.from), to = of.get(e.to), key = from + ' ' + to;
    if (from === to) continue;
    const sum = between.get(key) || {from, to, requests: 0, failed: 0, perSecond: 0, open: 0, bytes: 0, mtls: e.mtls, history: []};
    for (const field of ['requests', 'failed', 'perSecond', 'open', 'bytes']) sum[field] += e[field];
    if (e.p99 !== undefined) sum.p99 = Math.max(sum.p99 ?? 0, e.p99);
    if (sum.mtls !== e.mtls) sum.mtls = 'some';
    between.set(key, sum);
  }
  return {nodes: [...joined.values()], edges: [...between.values()]};
}
