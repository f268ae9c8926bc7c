"""What the papers say, checked: for each system the experiment, its baseline and its verdict. `burnish verify SLUG` runs one."""
