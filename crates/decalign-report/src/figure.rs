//! A figure: a drawing, its captions, and its numbers.

use crate::node::Node;
use crate::table::Table;

/// A drawing with its data.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Figure {
    /// A name for files and anchors, of letters, digits and hyphens.
    pub name: String,
    /// The title.
    pub title: String,
    /// How to read it, in one or two sentences.
    pub caption: String,
    /// The drawn numbers.
    pub data: Table,
    pub(crate) drawing: Node,
}

impl Figure {
    pub(crate) fn new(name: &str, title: &str, drawing: Node, data: Table) -> Self {
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        Self {
            name: name.to_lowercase().chars().map(safe).collect(),
            title: title.to_owned(),
            caption: String::new(),
            data,
            drawing,
        }
    }

    pub(crate) fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = caption.into();
        self
    }

    /// The drawing as an SVG document.
    pub fn svg(&self) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n",
            self.drawing
        )
    }

    /// The figure with its caption and its numbers, for a page.
    pub(crate) fn html(&self) -> Node {
        let data = Node::new("details")
            .child(Node::with_text("summary", "numbers"))
            .child(self.data.html());
        let caption = Node::new("figcaption")
            .child(Node::with_text("b", &self.title))
            .text(if self.caption.is_empty() { "" } else { ". " })
            .text(&self.caption);
        Node::new("figure")
            .set("id", &self.name)
            .child(caption)
            .child(self.drawing.clone())
            .child(data)
    }
}
