// Knex: a table with timestamps(), in which the times are JavaScript dates.
const { url, postgres, sqlitePath, documents, install } = require("./documents.cjs");
const knex = install("knex");

(async () => {
  const db = postgres
    ? knex({ client: "pg", connection: url })
    : knex({ client: "better-sqlite3", connection: { filename: sqlitePath }, useNullAsDefault: true });
  await db.schema.createTable("uploads", (table) => {
    table.uuid("id").primary();
    table.string("collection");
    table.timestamps(true, true);
  });
  await db("uploads").insert(documents.map((each) => ({ id: each.id, collection: each.collection, created_at: each.uploadedAt })));
  await db.destroy();
})();
