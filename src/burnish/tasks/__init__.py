"""Problems with exact verifiers, and held-out evaluation."""
