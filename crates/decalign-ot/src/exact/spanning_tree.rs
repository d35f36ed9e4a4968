//! The spanning tree of basic arcs and its pivots.

/// A basic arc: a row, a column, their cost and the flow in units of mass.
#[derive(Clone, Copy)]
pub(super) struct Arc {
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) cost: f64,
    pub(super) flow: i128,
}

/// A spanning tree of rows and columns. Each node but the root holds the arc to its parent; on
/// every arc the potentials of its ends sum to the cost.
///
/// Nodes are rows, then columns. Children form doubly linked lists, and a node stores the size of
/// its subtree: removing the leaving arc cuts the tree in two, and the pivot moves the smaller part,
/// even where that holds the root.
pub(super) struct SpanningTree {
    nodes: Vec<Node>,
    /// f of the rows, g of the columns, zeros up to a whole block.
    potentials: Vec<f64>,
    rows: usize,
    root: usize,
    /// Buffer for the path to the root.
    path: Vec<usize>,
}

#[derive(Clone)]
struct Node {
    flow: i128,
    cost: f64,
    parent: u32,
    child: u32,
    next: u32,
    previous: u32,
    size: u32,
}

/// No such node.
const NONE: u32 = u32::MAX;

impl SpanningTree {
    /// Builds the tree from arcs that span all rows and columns, where each arc but the last has one end that
    /// no later arc has. `stride` is the padded number of columns.
    pub(super) fn new(rows: usize, columns: usize, stride: usize, arcs: &[Arc]) -> Self {
        let alone = Node {
            flow: 0,
            cost: 0.0,
            parent: NONE,
            child: NONE,
            next: NONE,
            previous: NONE,
            size: 0,
        };
        let mut tree = Self {
            nodes: vec![alone; rows + columns],
            potentials: vec![0.0; rows + stride],
            rows,
            root: arcs.last().map_or(0, |arc| rows + arc.column),
            path: Vec::new(),
        };
        let root = tree.root;
        tree.nodes[root].size = 1;
        for arc in arcs.iter().rev() {
            let ends = (arc.row, rows + arc.column);
            let (child, parent) = match tree.nodes[ends.0].size {
                0 => ends,
                _ => (ends.1, ends.0),
            };
            tree.link(child, parent, (arc.cost, arc.flow));
            tree.nodes[child].size = 1;
        }
        // Children come before their parents.
        for arc in arcs {
            let (row, column) = (arc.row, rows + arc.column);
            match tree.nodes[row].parent == column as u32 {
                true => tree.nodes[column].size += tree.nodes[row].size,
                false => tree.nodes[row].size += tree.nodes[column].size,
            }
        }
        tree.recompute_potentials();
        tree
    }

    /// f and g; g is padded with zeros.
    pub(super) fn potentials(&self) -> (&[f64], &[f64]) {
        self.potentials.split_at(self.rows)
    }

    /// The arcs, ordered by child node.
    pub(super) fn arcs(&self) -> impl Iterator<Item = Arc> {
        let below = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(v, _)| *v != self.root);
        below.map(|(v, node)| {
            let parent = node.parent as usize;
            Arc {
                row: v.min(parent),
                column: v.max(parent) - self.rows,
                cost: node.cost,
                flow: node.flow,
            }
        })
    }

    /// Recomputes all potentials, 0 at the root; returns the largest magnitude.
    pub(super) fn recompute_potentials(&mut self) -> f64 {
        self.potentials[self.root] = 0.0;
        let mut child = self.nodes[self.root].child;
        while child != NONE {
            self.update_potentials(child as usize);
            child = self.nodes[child as usize].next;
        }
        self.potentials.iter().fold(0.0, |a, v| v.abs().max(a))
    }

    /// Pivots on an entering arc: flow goes round its cycle until the leaving arc is empty.
    pub(super) fn pivot(&mut self, row: usize, column: usize, cost: f64) {
        let ends = [row, self.rows + column];
        let join = self.join(ends);
        let sides = ends.map(|end| self.leaving_arc(end, join));
        // Flows of a nondegenerate tree never tie.
        let side = usize::from(sides[1].0 < sides[0].0);
        let (amount, leaving) = sides[side];
        ends.iter().for_each(|end| self.augment(*end, join, amount));
        self.cut(leaving);
        let (inside, outside) = (ends[side], ends[1 - side]);
        // Move the smaller part.
        let moves_root = 2 * self.nodes[leaving].size as usize > self.nodes.len();
        let (child, parent) = match moves_root {
            true => (outside, inside),
            false => (inside, outside),
        };
        if moves_root {
            self.root = leaving;
        }
        self.reroot(child);
        self.link(child, parent, (cost, amount));
        self.update_sizes(parent, self.nodes[child].size as i32);
        self.update_potentials(child);
    }

    /// The lowest common ancestor of the ends of the entering arc.
    fn join(&self, [mut u, mut v]: [usize; 2]) -> usize {
        while u != v {
            // An ancestor has the larger subtree, so the node with the smaller one is not an ancestor.
            match self.nodes[u].size < self.nodes[v].size {
                true => u = self.nodes[u].parent as usize,
                false => v = self.nodes[v].parent as usize,
            }
        }
        u
    }

    /// The least flow, and its child node, of the arcs that lose flow between an end of the entering arc and
    /// the join: those whose child is on the side of that end.
    fn leaving_arc(&self, end: usize, join: usize) -> (i128, usize) {
        let (mut least, mut v) = ((i128::MAX, end), end);
        while v != join {
            let node = &self.nodes[v];
            if self.same_side(v, end) && node.flow < least.0 {
                least = (node.flow, v);
            }
            v = node.parent as usize;
        }
        least
    }

    /// Takes flow from the arcs of [`SpanningTree::leaving_arc`] and adds it to the others up to the join.
    fn augment(&mut self, end: usize, join: usize, amount: i128) {
        let mut v = end;
        while v != join {
            self.nodes[v].flow += match self.same_side(v, end) {
                true => -amount,
                false => amount,
            };
            v = self.nodes[v].parent as usize;
        }
    }

    /// True if both are rows or both are columns.
    fn same_side(&self, u: usize, v: usize) -> bool {
        (u < self.rows) == (v < self.rows)
    }

    /// Detaches the subtree of `v`.
    fn cut(&mut self, v: usize) {
        let parent = self.nodes[v].parent as usize;
        self.unlink(v);
        self.update_sizes(parent, -(self.nodes[v].size as i32));
    }

    /// Makes `v` the root of its tree.
    fn reroot(&mut self, v: usize) {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        let mut u = v as u32;
        while u != NONE {
            path.push(u as usize);
            u = self.nodes[u as usize].parent;
        }
        // From the root down, each node becomes the child of the next on the path.
        for pair in path.windows(2).rev() {
            let (below, top) = (pair[0], pair[1]);
            let arc = (self.nodes[below].cost, self.nodes[below].flow);
            let size = self.nodes[top].size;
            self.unlink(below);
            self.nodes[top].size = size - self.nodes[below].size;
            self.nodes[below].size = size;
            self.link(top, below, arc);
        }
        self.path = path;
    }

    /// Adds `more` to the subtree sizes of `v` and its ancestors.
    fn update_sizes(&mut self, mut v: usize, more: i32) {
        loop {
            let node = &mut self.nodes[v];
            node.size = node.size.wrapping_add_signed(more);
            match node.parent {
                NONE => return,
                parent => v = parent as usize,
            }
        }
    }

    /// Computes the potentials of a subtree from that of its parent, depth first.
    fn update_potentials(&mut self, top: usize) {
        let mut v = top;
        loop {
            let node = &self.nodes[v];
            self.potentials[v] = node.cost - self.potentials[node.parent as usize];
            if node.child != NONE {
                v = node.child as usize;
                continue;
            }
            while v != top && self.nodes[v].next == NONE {
                v = self.nodes[v].parent as usize;
            }
            if v == top {
                return;
            }
            v = self.nodes[v].next as usize;
        }
    }

    /// Links `child`, the root of a tree, to `parent`; the caller updates sizes.
    fn link(&mut self, child: usize, parent: usize, (cost, flow): (f64, i128)) {
        let first = std::mem::replace(&mut self.nodes[parent].child, child as u32);
        if first != NONE {
            self.nodes[first as usize].previous = child as u32;
        }
        let node = &mut self.nodes[child];
        (node.parent, node.next, node.previous) = (parent as u32, first, NONE);
        (node.cost, node.flow) = (cost, flow);
    }

    /// Unlinks `child` from its parent; the caller updates sizes.
    fn unlink(&mut self, child: usize) {
        let node = &mut self.nodes[child];
        let (parent, next, previous) = (node.parent, node.next, node.previous);
        (node.parent, node.next, node.previous) = (NONE, NONE, NONE);
        match previous {
            NONE => self.nodes[parent as usize].child = next,
            previous => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
    }
}
