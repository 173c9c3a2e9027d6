"""Estimators of scikit-learn: the data in its conventions → `jaxreg.fit` → its attributes."""
