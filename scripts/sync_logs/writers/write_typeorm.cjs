// TypeORM: an entity with a CreateDateColumn that the database fills, or that the writer sets, and a DeleteDateColumn.
const { url, name, postgres, sqlitePath, documents, deleted, install, record } = require("./documents.cjs");
install("reflect-metadata");
const { DataSource, EntitySchema } = install("typeorm");

(async () => {
  const Upload = new EntitySchema({
    name: "Upload",
    tableName: "upload",
    columns: {
      id: { type: "uuid", primary: true },
      collection: { type: String },
      createdAt: { type: postgres ? "timestamp" : "datetime", createDate: true },
      deletedAt: { type: postgres ? "timestamp" : "datetime", deleteDate: true, nullable: true },
    },
  });
  const source = new DataSource({
    ...(postgres ? { type: "postgres", url, uuidExtension: "pgcrypto", installExtensions: false } : { type: "better-sqlite3", database: sqlitePath }),
    entities: [Upload],
    synchronize: true,
  });
  await source.initialize();
  const uploads = source.getRepository("Upload");
  const rows = [];
  for (const { id, collection } of [...documents, ...deleted]) {
    const began = new Date(Date.now() - 1000); // SQLite's default has whole seconds
    await uploads.insert({ id, collection });
    rows.push([id, began, new Date(Date.now() + 1)]);
  }
  await uploads.softDelete(deleted.map((each) => each.id));
  await source.destroy();
  record(rows.slice(0, documents.length));
})();
