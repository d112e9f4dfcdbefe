// What every writer in JavaScript gets: see documents.py.
const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

const [url, name] = process.argv.slice(2);
const all = JSON.parse(fs.readFileSync(path.join(__dirname, "documents.json"), "utf8"));
const dated = (rows) => rows.map((row) => ({ ...row, uploadedAt: new Date(row.uploaded_at) }));

module.exports = {
  url,
  name,
  postgres: url.startsWith("postgresql"),
  sqlitePath: url.replace(/^sqlite:\/\/\//, ""),
  documents: dated(all.documents),
  deleted: dated(all.deleted),
  // the tool is installed in the working folder, not beside this file
  install: createRequire(path.join(process.cwd(), "package.json")),
  record: (rows) =>
    fs.writeFileSync("given.json", JSON.stringify(rows.map(([id, ...times]) => ({ id, times: times.map((t) => t.toISOString()) })))),
};
