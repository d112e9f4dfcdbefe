// Knex: a table with timestamps(), in which the times are JavaScript dates; in one case in columns without a zone, which the
// driver fills in the zone of the process.
const { url, name, postgres, sqlitePath, documents, install } = require("./documents.cjs");
const knex = install("knex");

if (name.endsWith("paris")) process.env.TZ = "Europe/Paris";

(async () => {
  const db = postgres
    ? knex({ client: "pg", connection: url })
    : knex({ client: "better-sqlite3", connection: { filename: sqlitePath }, useNullAsDefault: true });
  await db.schema.createTable("uploads", (table) => {
    table.uuid("id").primary();
    table.string("collection");
    if (name.endsWith("paris")) table.timestamp("created_at", { useTz: false });
    else table.timestamps(true, true);
  });
  await db("uploads").insert(documents.map((each) => ({ id: each.id, collection: each.collection, created_at: each.uploadedAt })));
  await db.destroy();
})();
