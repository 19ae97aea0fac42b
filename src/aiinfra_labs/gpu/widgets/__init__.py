"""Widgets of chapter 3. All they do is in their JavaScript: a page needs no kernel for them."""
