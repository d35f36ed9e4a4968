//! The spanning tree of the cells in use.

/// A cell in use: a row, a column, their cost and the units of mass that flow.
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
/// Nodes are rows, then columns. Children form lists linked both ways, and a node knows the size
/// of its subtree: a pivot moves the smaller of the two parts that it cuts the tree into, be the
/// root in it or not.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// f of the rows, g of the columns, zeros up to a whole block.
    potentials: Vec<f64>,
    rows: usize,
    root: usize,
    /// Nodes on the way up; kept for its memory.
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

impl Tree {
    /// A tree of arcs that span all rows and columns, where each arc but the last has one end that
    /// no later arc has. `stride` is the room for the potentials of columns.
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
        tree.refresh();
        tree
    }

    /// f and g, with zeros behind the end of g.
    pub(super) fn potentials(&self) -> (&[f64], &[f64]) {
        self.potentials.split_at(self.rows)
    }

    /// The arcs, in order of their child nodes.
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

    /// Computes all potentials anew, 0 at the root; returns the largest magnitude.
    pub(super) fn refresh(&mut self) -> f64 {
        self.potentials[self.root] = 0.0;
        let mut child = self.nodes[self.root].child;
        while child != NONE {
            self.settle(child as usize);
            child = self.nodes[child as usize].next;
        }
        self.potentials.iter().fold(0.0, |a, v| v.abs().max(a))
    }

    /// Lets all mass that can flow over a new cell: the arc that empties leaves the tree.
    pub(super) fn pivot(&mut self, row: usize, column: usize, cost: f64) {
        let ends = [row, self.rows + column];
        let join = self.join(ends);
        let sides = ends.map(|end| self.emptying(end, join));
        // Flows of nondegenerate trees never tie.
        let side = usize::from(sides[1].0 < sides[0].0);
        let (amount, leaving) = sides[side];
        ends.iter().for_each(|end| self.shift(*end, join, amount));
        self.cut(leaving);
        let (inside, outside) = (ends[side], ends[1 - side]);
        // The smaller part moves.
        let moves_root = 2 * self.nodes[leaving].size as usize > self.nodes.len();
        let (child, parent) = match moves_root {
            true => (outside, inside),
            false => (inside, outside),
        };
        if moves_root {
            self.root = leaving;
        }
        self.evert(child);
        self.link(child, parent, (cost, amount));
        self.resize(parent, self.nodes[child].size as i32);
        self.settle(child);
    }

    /// The lowest common ancestor.
    fn join(&self, [mut u, mut v]: [usize; 2]) -> usize {
        while u != v {
            // A node is larger than what is below it: the smaller is no ancestor of the other.
            match self.nodes[u].size < self.nodes[v].size {
                true => u = self.nodes[u].parent as usize,
                false => v = self.nodes[v].parent as usize,
            }
        }
        u
    }

    /// The least flow, and its node, of the arcs that lose mass between an end of the new cell and
    /// the join: those whose child is a row where the end is a row, a column where it is a column.
    fn emptying(&self, end: usize, join: usize) -> (i128, usize) {
        let (mut least, mut v) = ((i128::MAX, end), end);
        while v != join {
            let node = &self.nodes[v];
            if self.alike(v, end) && node.flow < least.0 {
                least = (node.flow, v);
            }
            v = node.parent as usize;
        }
        least
    }

    /// Takes mass from those arcs and gives it to the others.
    fn shift(&mut self, end: usize, join: usize, amount: i128) {
        let mut v = end;
        while v != join {
            self.nodes[v].flow += match self.alike(v, end) {
                true => -amount,
                false => amount,
            };
            v = self.nodes[v].parent as usize;
        }
    }

    /// Both rows or both columns.
    fn alike(&self, u: usize, v: usize) -> bool {
        (u < self.rows) == (v < self.rows)
    }

    /// Makes the subtree of `v` a tree of its own.
    fn cut(&mut self, v: usize) {
        let parent = self.nodes[v].parent as usize;
        self.unlink(v);
        self.resize(parent, -(self.nodes[v].size as i32));
    }

    /// Makes `v` the top of its tree.
    fn evert(&mut self, v: usize) {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        let mut u = v as u32;
        while u != NONE {
            path.push(u as usize);
            u = self.nodes[u as usize].parent;
        }
        // From the top down, each node goes below the next.
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

    /// Adds to the sizes of `v` and all above it.
    fn resize(&mut self, mut v: usize, more: i32) {
        loop {
            let node = &mut self.nodes[v];
            node.size = node.size.wrapping_add_signed(more);
            match node.parent {
                NONE => return,
                parent => v = parent as usize,
            }
        }
    }

    /// Computes the potentials of a subtree from that of its top's parent.
    fn settle(&mut self, top: usize) {
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

    /// Puts `child`, the top of a tree, below `parent`; sizes are the caller's.
    fn link(&mut self, child: usize, parent: usize, (cost, flow): (f64, i128)) {
        let first = std::mem::replace(&mut self.nodes[parent].child, child as u32);
        if first != NONE {
            self.nodes[first as usize].previous = child as u32;
        }
        let node = &mut self.nodes[child];
        (node.parent, node.next, node.previous) = (parent as u32, first, NONE);
        (node.cost, node.flow) = (cost, flow);
    }

    /// Takes `child` from below its parent; sizes are the caller's.
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
