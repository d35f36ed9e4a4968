//! The HTML page, which needs no other file.

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::figure::Figure;
use crate::node::Node;
use crate::run::ReportInput;
use crate::section::{Section, sections};

/// Sections of figures and tables, ready to be written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The page's heading.
    pub title: String,
    /// What it shows.
    pub sections: Vec<Section>,
}

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:16px/1.5 system-ui,'DejaVu Sans',Arial,sans-serif;color:#1a1a1a;background:#fff;margin:0 auto;padding:1rem;max-width:75rem}\
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.5rem;border-bottom:1px solid #ccc}h3{font-size:1rem;margin-bottom:.3rem}\
nav a{margin-right:1rem}a{color:#0059a0}\
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));gap:1.5rem}\
figure{margin:0;break-inside:avoid}figcaption{font-size:.9rem;margin-bottom:.4rem}\
svg{max-width:100%;height:auto}\
.scroll{overflow-x:auto;max-height:28rem;overflow-y:auto}\
table{border-collapse:collapse;font-size:.85rem}th,td{padding:.2rem .6rem;text-align:left;border-bottom:1px solid #e2e2e2}\
td.n{text-align:right;font-variant-numeric:tabular-nums}thead th{position:sticky;top:0;background:#fff}\
summary{cursor:pointer;font-size:.85rem;color:#444}\
@media print{body{max-width:none;font-size:11pt}details,nav{display:none}.scroll{max-height:none;overflow:visible}h2{break-after:avoid}}";

impl Report {
    /// A report on what was found in folders.
    ///
    /// # Errors
    /// When a model and its data do not fit one another.
    pub fn new(title: impl Into<String>, found: Vec<ReportInput>) -> Result<Self> {
        Ok(Self {
            title: title.into(),
            sections: sections(found)?,
        })
    }

    /// The figures of all sections.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.sections.iter().flat_map(|s| &s.figures)
    }

    /// The whole page: readable without network and without scripts, on a phone and on paper. The
    /// numbers of everything that is drawn are in it, in an element of data.
    pub fn html(&self) -> String {
        let head = Node::new("head")
            .child(Node::new("meta").set("charset", "utf-8"))
            .child(
                Node::new("meta")
                    .set("name", "viewport")
                    .set("content", "width=device-width, initial-scale=1"),
            )
            .child(Node::with_text("title", &self.title))
            .child(Node::new("style").child(Node::Raw(STYLE.to_owned())));
        let links = self.sections.iter().enumerate();
        let links =
            links.map(|(i, s)| Node::with_text("a", &s.title).set("href", format!("#section-{i}")));
        let sections = self.sections.iter().enumerate().map(|(i, s)| section(i, s));
        // In a script no text may begin or end an element.
        let data = self.json().to_string().replace('<', "\\u003c");
        let body = Node::new("body")
            .child(Node::with_text("h1", &self.title))
            .child(Node::new("nav").children(links))
            .children(sections)
            .child(
                Node::new("script")
                    .set("type", "application/json")
                    .set("id", "data")
                    .child(Node::Raw(data)),
            );
        let page = Node::new("html").set("lang", "en").child(head).child(body);
        format!("<!DOCTYPE html>\n{page}\n")
    }

    /// The numbers of all figures and tables, by section and name.
    pub fn json(&self) -> Value {
        let section = |s: &Section| {
            let figures: Map<String, Value> = s
                .figures
                .iter()
                .map(|f| (f.name.clone(), f.data.json()))
                .collect();
            let tables: Map<String, Value> = s
                .tables
                .iter()
                .map(|(name, t)| (name.clone(), t.json()))
                .collect();
            json!({ "title": s.title, "tables": tables, "figures": figures })
        };
        json!({ "title": self.title, "sections": self.sections.iter().map(section).collect::<Vec<_>>() })
    }
}

fn section(i: usize, section: &Section) -> Node {
    let mut node = Node::new("section")
        .set("id", format!("section-{i}"))
        .child(Node::with_text("h2", &section.title));
    let figures = Node::new("div").set("class", "figures");
    node.push(figures.children(section.figures.iter().map(Figure::html)));
    for (title, table) in &section.tables {
        node.push(Node::with_text("h3", title));
        node.push(table.html());
    }
    node
}
