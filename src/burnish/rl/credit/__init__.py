"""Who gets the credit: baseline >> scale >> token map on a `CreditBatch`. Modules here are found by name (`burnish.runs.parts`)."""
