// Drizzle: integers in the mode timestamp or timestamp_ms, and an id in a blob; on PostgreSQL uuid and timestamp.
const { url, name, postgres, sqlitePath, documents, install } = require("./documents.cjs");

const bytes = (id) => Buffer.from(id.replaceAll("-", ""), "hex");

async function onPostgres() {
  const { Pool } = install("pg");
  const { drizzle } = install("drizzle-orm/node-postgres");
  const { pgTable, uuid, timestamp, text } = install("drizzle-orm/pg-core");
  const pool = new Pool({ connectionString: url });
  // drizzle-kit, which creates tables, is a separate program
  await pool.query("CREATE TABLE uploads (id uuid PRIMARY KEY, uploaded_at timestamp NOT NULL, collection text)");
  const uploads = pgTable("uploads", { id: uuid("id"), uploadedAt: timestamp("uploaded_at"), collection: text("collection") });
  await drizzle(pool).insert(uploads).values(documents);
  await pool.end();
}

function onSqlite() {
  const Database = install("better-sqlite3");
  const { drizzle } = install("drizzle-orm/better-sqlite3");
  const { sqliteTable, integer, text, blob } = install("drizzle-orm/sqlite-core");
  const binary = name.endsWith("blob");
  const connection = new Database(sqlitePath);
  connection.exec(`CREATE TABLE uploads (id ${binary ? "blob" : "text"} PRIMARY KEY, uploaded_at integer, collection text)`);
  const uploads = sqliteTable("uploads", {
    id: binary ? blob("id", { mode: "buffer" }) : text("id"),
    uploadedAt: integer("uploaded_at", { mode: "timestamp_ms" }),
    collection: text("collection"),
  });
  const rows = documents.map((each) => ({ ...each, id: binary ? bytes(each.id) : each.id }));
  drizzle(connection).insert(uploads).values(rows).run();
  connection.close();
}

postgres ? onPostgres() : onSqlite();
