// Prisma Client: a model with createdAt. Its schema engine, which creates tables, can't be installed from the registry
// alone, so the table is made here as `prisma migrate` would.
const fs = require("node:fs");
const { execFileSync } = require("node:child_process");
const { url, postgres, sqlitePath, documents, install } = require("./documents.cjs");

const schema = `
generator client {
  provider = "prisma-client-js"
  output   = "./generated"
}
datasource db {
  provider = "${postgres ? "postgresql" : "sqlite"}"
}
model Upload {
  id         String   @id
  createdAt  DateTime @default(now())
  collection String
}
`;

const table = postgres
  ? 'CREATE TABLE "Upload" ("id" TEXT PRIMARY KEY, "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "collection" TEXT NOT NULL)'
  : 'CREATE TABLE "Upload" ("id" TEXT NOT NULL PRIMARY KEY, "createdAt" DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, "collection" TEXT NOT NULL)';

(async () => {
  fs.writeFileSync("schema.prisma", schema);
  execFileSync("node", ["node_modules/prisma/build/index.js", "generate", "--schema", "schema.prisma"], {
    env: { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: "/bin/true" },
  });
  const { PrismaClient } = require(`${process.cwd()}/generated`);
  let adapter;
  if (postgres) {
    const { Client } = install("pg");
    const client = new Client({ connectionString: url });
    await client.connect();
    await client.query(table);
    await client.end();
    const { PrismaPg } = install("@prisma/adapter-pg");
    adapter = new PrismaPg({ connectionString: url });
  } else {
    const Database = install("better-sqlite3");
    new Database(sqlitePath).exec(table).close();
    const { PrismaBetterSqlite3 } = install("@prisma/adapter-better-sqlite3");
    adapter = new PrismaBetterSqlite3({ url: `file:${sqlitePath}` });
  }
  const prisma = new PrismaClient({ adapter });
  await prisma.upload.createMany({
    data: documents.map((each) => ({ id: each.id, createdAt: each.uploadedAt, collection: each.collection })),
  });
  await prisma.$disconnect();
})();
