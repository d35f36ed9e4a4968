//! The graph of a problem's costs, and the cheapest method to sum over its marginals.
//!
//! Marginals are nodes and costs of pairs are edges. Without a cycle, messages along the edges suffice ([`Forest`]).
//! With cycles, bucket elimination (Dechter, 1999) sums out one marginal at a time, on a table of itself and its
//! neighbours, which become neighbours of one another; the order adds the fewest edges. On a complete graph the table
//! is the joint tensor.

use decalign_core::{Error, Result};

use super::problem::CELL_LIMIT;
use super::problem_checks::product;

/// How a problem is solved.
#[derive(Clone, Debug)]
pub(crate) enum Method {
    /// On the joint tensor.
    Dense,
    /// Messages along the edges.
    Forest(Forest),
    /// Messages between tables.
    Buckets(Vec<Bucket>),
}

/// A step of the depth-first tour of a forest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TourStep {
    /// Enters a marginal from its parent, or a root.
    Enter(usize),
    /// Leaves a marginal after all below it.
    Leave(usize),
}

/// A rooted tree for each connected component.
#[derive(Clone, Debug)]
pub(crate) struct Forest {
    /// The parent of every marginal and the edge to it; `None` for roots.
    pub(crate) parents: Vec<Option<(usize, usize)>>,
    pub(crate) children: Vec<Vec<usize>>,
    /// Enters and leaves every marginal once, depth first.
    pub(crate) tour: Vec<TourStep>,
}

/// The table on which a marginal is summed out.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// The marginals of the table: those eliminated later, the last of all first, then its own.
    pub(crate) scope: Vec<usize>,
    /// The edges whose costs the table contains.
    pub(crate) edges: Vec<usize>,
    /// The marginal whose bucket receives the sums.
    pub(crate) parent: Option<usize>,
    pub(crate) children: Vec<usize>,
}

/// How many cells of a joint tensor cost as much as one of a message, which takes exponentials.
const DENSE_ADVANTAGE: usize = 8;

impl Method {
    /// The cheapest method whose tables fit.
    pub(crate) fn of_edges(sizes: &[usize], edges: &[(usize, usize)]) -> Result<Self> {
        let dense = product(sizes.iter().copied()).filter(|cells| *cells <= CELL_LIMIT);
        let forest = Forest::new(sizes.len(), edges);
        let others = match &forest {
            Some(_) => edges
                .iter()
                .map(|(a, b)| sizes[*a].saturating_mul(sizes[*b]))
                .sum(),
            None => usize::MAX,
        };
        let worth = |cells: usize, others: usize| cells <= others.saturating_mul(DENSE_ADVANTAGE);
        match (dense, forest) {
            (Some(cells), Some(_)) if worth(cells, others) => Ok(Self::Dense),
            (_, Some(forest)) => Ok(Self::Forest(forest)),
            (dense, None) => {
                let buckets = buckets(sizes, edges);
                let tables = buckets.iter().map(|b| cells(sizes, &b.scope));
                let (total, largest) = tables.fold((0usize, 0), |(sum, most), cells| {
                    (sum.saturating_add(cells), most.max(cells))
                });
                match dense {
                    Some(cells) if worth(cells, total) => Ok(Self::Dense),
                    _ if largest <= CELL_LIMIT => Ok(Self::Buckets(buckets)),
                    _ => Err(too_many_cells(sizes, &buckets)),
                }
            }
        }
    }

    /// Cells of the largest table.
    pub(crate) fn cells(&self, sizes: &[usize], edges: &[(usize, usize)]) -> usize {
        let largest = match self {
            Self::Dense => return sizes.iter().product(),
            Self::Forest(_) => edges.iter().map(|(a, b)| sizes[*a] * sizes[*b]).max(),
            Self::Buckets(buckets) => buckets.iter().map(|b| cells(sizes, &b.scope)).max(),
        };
        // Without an edge the vectors are the largest tables.
        largest.unwrap_or_else(|| sizes.iter().copied().max().unwrap_or(0))
    }
}

fn cells(sizes: &[usize], scope: &[usize]) -> usize {
    product(scope.iter().map(|m| sizes[*m])).unwrap_or(usize::MAX)
}

fn too_many_cells(sizes: &[usize], buckets: &[Bucket]) -> Error {
    let largest = buckets.iter().max_by_key(|b| cells(sizes, &b.scope));
    let scope = largest.map_or(&[][..], |b| &b.scope);
    let mut scope = scope.to_vec();
    scope.sort_unstable();
    let got: Vec<String> = scope.iter().map(|m| sizes[*m].to_string()).collect();
    let remedy = format!(
        "summing out one of the marginals {scope:?}, which costs join, takes a table of all of \
         them, and a table holds at most {CELL_LIMIT} cells: use fewer points or fewer costs"
    );
    Error::value("number of cells", got.join(" x "), remedy)
}

impl Forest {
    /// `None` if there is a cycle.
    fn new(marginals: usize, edges: &[(usize, usize)]) -> Option<Self> {
        let mut around = vec![Vec::new(); marginals];
        for (e, (a, b)) in edges.iter().enumerate() {
            around[*a].push((*b, e));
            around[*b].push((*a, e));
        }
        let mut forest = Self {
            parents: vec![None; marginals],
            children: vec![Vec::new(); marginals],
            tour: Vec::with_capacity(2 * marginals),
        };
        let mut seen = vec![false; marginals];
        for root in 0..marginals {
            let mut stack = if seen[root] {
                vec![]
            } else {
                vec![TourStep::Enter(root)]
            };
            while let Some(step) = stack.pop() {
                forest.tour.push(step);
                let TourStep::Enter(m) = step else { continue };
                if std::mem::replace(&mut seen[m], true) {
                    return None;
                }
                stack.push(TourStep::Leave(m));
                let above = forest.parents[m].map(|(_, e)| e);
                for (n, e) in around[m].iter().rev().filter(|(_, e)| Some(*e) != above) {
                    if seen[*n] {
                        return None;
                    }
                    forest.parents[*n] = Some((m, *e));
                    forest.children[m].push(*n);
                    stack.push(TourStep::Enter(*n));
                }
            }
        }
        Some(forest)
    }

    /// The marginals on the path from one to another, if one exists.
    pub(crate) fn path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let above = |m: usize| -> Vec<usize> {
            std::iter::successors(Some(m), |m| self.parents[*m].map(|(p, _)| p)).collect()
        };
        let (mut up, down) = (above(from), above(to));
        let meet = up.iter().position(|m| down.contains(m))?;
        up.truncate(meet + 1);
        let back = down.iter().take_while(|m| **m != up[meet]).copied();
        let back: Vec<usize> = back.collect();
        up.extend(back.into_iter().rev());
        Some(up)
    }
}

/// The bucket of every marginal, by minimum fill-in.
fn buckets(sizes: &[usize], edges: &[(usize, usize)]) -> Vec<Bucket> {
    let n = sizes.len();
    let mut joined = vec![vec![false; n]; n];
    for (a, b) in edges {
        joined[*a][*b] = true;
        joined[*b][*a] = true;
    }
    let (mut left, mut order, mut scopes) = (vec![true; n], Vec::new(), vec![Vec::new(); n]);
    while order.len() < n {
        let around =
            |m: usize| -> Vec<usize> { (0..n).filter(|k| left[*k] && joined[m][*k]).collect() };
        let effort = |m: usize| {
            let around = around(m);
            let missing =
                |(i, a): (usize, &usize)| around[..i].iter().filter(|b| !joined[*a][**b]).count();
            let joins: usize = around.iter().enumerate().map(missing).sum();
            (joins, cells(sizes, &around).saturating_mul(sizes[m]), m)
        };
        let next = (0..n).filter(|m| left[*m]).map(effort).min();
        let Some((_, _, m)) = next else { break };
        let around = around(m);
        for a in &around {
            for b in around.iter().filter(|b| *b != a) {
                joined[*a][*b] = true;
            }
        }
        left[m] = false;
        order.push(m);
        scopes[m] = around;
    }
    assemble(&order, scopes, edges)
}

fn assemble(order: &[usize], scopes: Vec<Vec<usize>>, edges: &[(usize, usize)]) -> Vec<Bucket> {
    let mut place = vec![0; order.len()];
    for (i, m) in order.iter().enumerate() {
        place[*m] = i;
    }
    let each = scopes.into_iter().enumerate().map(|(m, mut scope)| {
        scope.sort_unstable_by_key(|k| std::cmp::Reverse(place[*k]));
        let parent = scope.last().copied();
        scope.push(m);
        Bucket {
            scope,
            edges: Vec::new(),
            parent,
            children: Vec::new(),
        }
    });
    let mut buckets: Vec<Bucket> = each.collect();
    for (e, (a, b)) in edges.iter().enumerate() {
        let first = if place[*a] < place[*b] { *a } else { *b };
        buckets[first].edges.push(e);
    }
    for m in order {
        if let Some(parent) = buckets[*m].parent {
            buckets[parent].children.push(*m);
        }
    }
    buckets
}
