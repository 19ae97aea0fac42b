"""Widgets of chapter 4. All they do is in their JavaScript: a page needs no kernel for them."""
