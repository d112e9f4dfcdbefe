// Sequelize: a model with its own timestamps; in the other case it is paranoid, and one row is destroyed.
const { url, name, postgres, sqlitePath, documents, deleted, install } = require("./documents.cjs");
const { Sequelize, DataTypes } = install("sequelize");

(async () => {
  const paranoid = name.endsWith("paranoid");
  const sequelize = postgres
    ? new Sequelize(url, { logging: false })
    : new Sequelize({ dialect: "sqlite", storage: sqlitePath, logging: false });
  const Upload = sequelize.define(
    "Upload",
    { id: { type: DataTypes.UUID, primaryKey: true }, collection: DataTypes.STRING },
    { paranoid },
  );
  await sequelize.sync();
  const rows = paranoid ? [...documents, ...deleted] : documents;
  for (const { id, uploadedAt, collection } of rows) {
    await Upload.create({ id, collection, createdAt: uploadedAt });
  }
  if (paranoid) await Upload.destroy({ where: { id: deleted.map((each) => each.id) } });
  await sequelize.close();
})();
