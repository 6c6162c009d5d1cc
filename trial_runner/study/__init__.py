"""The stored study: database, driver lease, the one writer, its objectives and its folders."""
